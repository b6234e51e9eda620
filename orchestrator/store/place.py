"""What the store asks of the place where it lies, a folder or a prefix in an S3 bucket, and how a
place fails.

Every operation raises StorageError, or another OSError, where the storage does not do it.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, ClassVar, Protocol


class StorageError(ConnectionError):
    """The storage does not do what was asked of it; the message names it and the remedy."""


class StorageRefusedError(StorageError):
    """The same, and it will not when asked again at once: credentials, rights, a bucket that is not
    there."""


class Place(Protocol):
    """A folder or file of a store. What it shares with `pathlib.Path` does what Path's does."""

    poll_factor: ClassVar[
        int
    ]  # how many times as long to wait between two looks at it as in a folder
    is_local: ClassVar[bool]  # whether a file can be read without being copied here first

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
        """What matches `pattern`, such as */manifest.json, below this, sorted; nothing where this
        is not there."""
        ...

    def put(self, data: bytes) -> None:
        """Write the file atomically and durably: a reader, and a machine that loses its power, has
        all of it or nothing."""
        ...

    def put_json(self, value: Any) -> None:
        """`put` of `value` as JSON."""
        ...

    def note(self, data: bytes) -> None:
        """Write the file atomically and quickly: a reader has all of it or nothing, a loss of power
        may undo it."""
        ...

    def rewrite(self, data: bytes) -> None:
        """`note` anew what this very object has created. Raises FileNotFoundError where it was
        removed."""
        ...

    def create(self, data: bytes) -> bool:
        """Write a file that is not there yet; False where it is. Of several that try only one gets
        True: `data` has to be of this writer alone."""
        ...

    def set_aside(self, suffix: str) -> None:
        """Rename the file to one with another suffix."""
        ...

    def modified(self) -> float:
        """When the file was written last, in seconds since 1970. Raises FileNotFoundError where
        there is none."""
        ...

    def listing(self) -> dict[str, tuple[int, int]]:
        """The files directly below this: the bytes of each, and when it was written, in nanoseconds
        since 1970; empty where this is not there."""
        ...

    def local(self, anew: bool = False) -> Path:
        """A file on this machine with the same content; `anew`: no copy that was made before."""
        ...

    def clear(self) -> None:
        """Remove it with everything below, as far as that can be done. Raises nothing."""
        ...

    def draft(self) -> Path:
        """An empty folder on this machine in which this process gathers what `adopt` is to put in
        place."""
        ...

    def adopt(self, drafted: Path, marker: str, said: dict[str, Any]) -> None:
        """Put the files of `drafted` here, and with them the JSON file `marker`, which says that
        they are whole: a reader who finds it finds all. Raises an OSError where another process was
        faster, whose files stay."""
        ...

    def adopted(self, marker: str) -> bool:
        """Whether `adopt` has put something here, without a cache of this machine between: `exists`
        may tell what a shared folder held half a minute ago."""
        ...

    def withdraw(self, marker: str, aside: Any, keep: bool = False) -> None:
        """Remove what `adopt` put here, out of the readers' sight first; `aside` is a place that
        nobody reads, where it lies then if it is to `keep`. Raises FileNotFoundError where nothing
        is here."""
        ...

    def staged(self) -> AbstractContextManager[Path]:
        """A folder on this machine whose files are in this place when the context ends without an
        error."""
        ...

    def fetched(self, *names: str) -> AbstractContextManager[Path]:
        """A folder on this machine that has, while the context is open, those of the files `names`
        that are there."""
        ...

    def problem(self) -> str:
        """Why no store can be written here, in words that begin with "but"; empty where one can.
        Writes nothing that stays."""
        ...
