"""The interface of a place of the store, a folder or a prefix in an S3 bucket, and its errors.

Every operation raises StorageError, or another OSError, where the storage fails.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, ClassVar, Protocol


class StorageError(ConnectionError):
    """The storage failed; the message names it and the remedy."""


class StorageRefusedError(StorageError):
    """The storage refuses, and a retry is of no use: credentials, rights, a missing bucket."""


class Place(Protocol):
    """A folder or file of a store. Methods with the name of a method of `pathlib.Path` do the
    same."""

    poll_factor: ClassVar[int]  # multiplies the interval between two polls of a folder
    is_local: ClassVar[bool]  # whether a file can be read without a copy on this machine

    @property
    def name(self) -> str: ...
    @property
    def parent(self) -> "Place": ...
    @property
    def parents(self) -> "Sequence[Place]": ...
    @property
    def parts(self) -> tuple[str, ...]: ...
    def __truediv__(self, name: str, /) -> "Place": ...
    def __lt__(self, other: Any, /) -> bool: ...
    def __hash__(self) -> int: ...
    def with_suffix(self, suffix: str, /) -> "Place": ...
    def absolute(self) -> "Place": ...
    def exists(self) -> bool: ...
    def is_dir(self) -> bool: ...
    def mkdir(self, *, parents: bool = False, exist_ok: bool = False) -> None: ...
    def read_bytes(self) -> bytes: ...
    def read_text(self) -> str: ...
    def unlink(self, missing_ok: bool = False) -> None: ...

    def find(self, pattern: str) -> "list[Place]":
        """The files and folders below this that match `pattern`, such as */manifest.json, sorted;
        empty where this does not exist."""
        ...

    def put(self, data: bytes) -> None:
        """Write the file atomically and durably: a reader gets all of it or nothing, also after a
        power failure."""
        ...

    def put_json(self, value: Any) -> None:
        """`put` of `value` as JSON."""
        ...

    def put_fast(self, data: bytes) -> None:
        """Write the file atomically, but not durably: a reader gets all of it or nothing, and a
        power failure may undo it."""
        ...

    def rewrite(self, data: bytes) -> None:
        """`put_fast` a file that this same object has created. Raises FileNotFoundError where it
        was removed; a folder may create it again."""
        ...

    def create(self, data: bytes) -> bool:
        """Create the file exclusively; False where it exists. Of several writers only one gets
        True. `data` must differ between writers."""
        ...

    def set_aside(self, suffix: str) -> None:
        """Rename the file to one with another suffix."""
        ...

    def modified(self) -> float:
        """When the file was last written, in seconds since 1970. Raises FileNotFoundError where it
        does not exist."""
        ...

    def listing(self) -> dict[str, tuple[int, int]]:
        """The files directly below this: the bytes of each, and when it was written, in nanoseconds
        since 1970; empty where this does not exist."""
        ...

    def local(self, refresh: bool = False) -> Path:
        """A file on this machine with the same content; `refresh`: do not use an earlier copy."""
        ...

    def clear(self) -> None:
        """Remove this and everything below where possible. Raises nothing."""
        ...

    def draft(self) -> Path:
        """An empty folder on this machine for the files that `commit` will put here."""
        ...

    def commit(self, draft: Path, marker: str, content: dict[str, Any]) -> None:
        """Put the files of `draft` here atomically, with the JSON file `marker` of this `content`:
        a reader who finds the marker finds all files. Raises OSError where another process was
        faster, whose files stay."""
        ...

    def committed(self, marker: str) -> bool:
        """Whether `commit` has put something here, bypassing this machine's cache of a shared
        folder, from which `exists` may answer."""
        ...

    def withdraw(self, marker: str, target: Any, keep: bool = False) -> None:
        """Remove what `commit` put here, so that readers find all of it or nothing: move it to
        `target`, where no reader looks, and remove it there unless it is to be kept. Raises
        FileNotFoundError where nothing is here."""
        ...

    def staged(self) -> AbstractContextManager[Path]:
        """A temporary folder on this machine; its files are put here when the context ends without
        an error."""
        ...

    def fetched(self, *names: str) -> AbstractContextManager[Path]:
        """A folder on this machine with the files `names`, those that exist here, while the context
        is open."""
        ...

    def problem(self) -> str:
        """Why no store can be written here, as a message that begins with "but"; empty where one
        can. Leaves no files."""
        ...
