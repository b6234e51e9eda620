"""Where the store lies: a folder that all machines see, or a prefix in an S3 bucket, each with the same few operations.

A `Folder` is a Path that can do a little more. Code that is to work in both uses of a Path what `s3.S3Place` has too:
`/`, name, parent, parents, parts, with_suffix, exists, is_dir, mkdir, read_bytes, read_text and unlink.
"""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path, PosixPath
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias

from kaccore.files import write_bytes, write_json
from orchestrator.addresses import bucket_and_prefix, expanded

if TYPE_CHECKING:
    from orchestrator.s3 import S3Place

Place: TypeAlias = "Folder | S3Place"
Where: TypeAlias = "str | os.PathLike[str] | Place"  # what can be said in the place of one
FULL_BYTES = 100_000  # with less free no store can begin


class StorageError(ConnectionError):
    """The storage does not do what was asked of it; the message names it and the remedy."""


class StorageRefusedError(StorageError):
    """The same, and it will not when asked again at once: credentials, rights, a bucket that is not there."""


class Folder(PosixPath):
    """A folder or file of a store that lies on a disk, local or shared."""

    pace: ClassVar[int] = 1  # how many times as long to wait between two looks at it as in a folder
    near: ClassVar[bool] = True  # whether a file can be read without being copied here first

    def find(self, pattern: str) -> list[Place]:
        """What matches `pattern`, such as */manifest.json, below this, sorted."""
        first, _, rest = pattern.partition("/")
        if rest:
            return [each for found in self.find(first) for each in found.find(rest)]
        try:
            return sorted(self.glob(first))
        except FileNotFoundError:  # the folder was removed while it was looked through
            return []

    def read_text(self, encoding: str | None = "utf-8", errors: str | None = None) -> str:
        """The text of the file, which this project writes in UTF-8 whatever the locale of this process."""
        return super().read_text(encoding, errors)

    def put(self, data: bytes) -> None:
        """Write the file so that a reader, and a machine that loses its power, has all of it or nothing."""
        write_bytes(self, data)

    def put_json(self, value: Any) -> None:
        """`put` of `value` as JSON."""
        write_json(self, value)

    def note(self, data: bytes) -> None:
        """Write the file so that a reader has all of it or nothing, and quickly: what counts at this moment alone."""
        aside = self.with_name(f".{self.name}.tmp")
        try:
            aside.write_bytes(data)
            aside.replace(self)
        except OSError:
            with suppress(OSError):
                aside.unlink()
            raise

    def rewrite(self, data: bytes) -> None:
        """`note` anew what this very object has created; raises FileNotFoundError where its folder is gone."""
        self.note(data)

    def create(self, data: bytes) -> bool:
        """Write a file that is not there yet; False where it is. Of several that try only one gets True: `data` has to
        be of this writer alone."""
        try:
            with self.open("xb") as f:
                f.write(data)
        except FileExistsError:
            return False
        return True

    def modified(self) -> float:
        """When the file was written last, in seconds since 1970."""
        return self.stat().st_mtime

    def listing(self) -> dict[str, tuple[int, int]]:
        """The files directly below this: the bytes of each, and when it was written, in nanoseconds since 1970."""
        try:
            found = [(p.name, p.stat()) for p in self.iterdir() if p.is_file()]
        except FileNotFoundError:  # removed while it was looked through
            return {}
        return {name: (status.st_size, status.st_mtime_ns) for name, status in found}

    def local(self, anew: bool = False) -> Path:
        """A file on this machine with the same content; `anew`: no copy that was made before."""
        return self

    def set_aside(self, suffix: str) -> None:
        """Rename the file to one with another suffix."""
        self.rename(self.with_suffix(suffix))

    def clear(self) -> None:
        """Remove it with everything below, as far as that can be done."""
        shutil.rmtree(self, ignore_errors=True)

    def draft(self) -> Path:
        """An empty folder on this machine in which this process gathers what `adopt` is to put in place."""
        folder = self / f"result.{os.getpid()}"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        return folder

    def adopt(self, drafted: Path, marker: str, said: dict[str, Any]) -> None:
        """Put the files of `drafted` here, and with them the JSON file `marker`, which says that they are whole: a
        reader who finds it finds all. Raises an OSError where another process was faster, whose files stay."""
        self.parent.mkdir(parents=True, exist_ok=True)
        write_json(drafted / marker, said)
        drafted.rename(self)

    def adopted(self, marker: str) -> bool:
        """Whether `adopt` has put something here, by the word of the machine that has the disk: `exists` may tell what
        this one remembers of a shared folder from half a minute ago, until it makes something there."""
        try:
            self.mkdir(parents=True)
        except FileExistsError:
            return (self / marker).exists()
        with suppress(OSError):  # or somebody has been here in between
            self.rmdir()
        return False

    def withdraw(self, marker: str, aside: Place, keep: bool = False) -> None:
        """Remove what `adopt` put here, out of the readers' sight first; `aside` is a place that nobody reads, where it
        lies then if it is to `keep`. Raises FileNotFoundError where nothing is here."""
        aside.parent.mkdir(exist_ok=True)
        self.rename(str(aside))
        if not keep:
            aside.clear()

    @contextmanager
    def staged(self) -> Iterator[Path]:
        """A folder on this machine whose files are in this place when the context ends without an error."""
        self.mkdir(parents=True, exist_ok=True)
        yield self

    @contextmanager
    def fetched(self, *names: str) -> Iterator[Path]:
        """A folder on this machine that has, while the context is open, those of the files `names` that are there."""
        yield self

    def problem(self) -> str:
        """Why no store can be written here, in words that begin with "but"; empty where one can. Writes nothing that
        stays."""
        try:
            existing = self.nearest()
        except OSError as e:  # a name that is too long, or a folder that cannot be looked into
            return f"but it cannot be used: {e.strerror}"
        if not existing.is_dir():
            return f"but {existing} is a file"
        if not os.access(existing, os.W_OK | os.X_OK):
            return f"but {existing} cannot be written"
        disk = os.statvfs(existing)  # a mounted bucket has no size: zero blocks
        free = (disk.f_bfree if os.geteuid() == 0 else disk.f_bavail) * disk.f_frsize
        if (disk.f_blocks and free < FULL_BYTES) or (disk.f_files and not disk.f_ffree):
            return f"but the disk of {existing} is full: make room"
        return ""

    def nearest(self) -> "Folder":
        """Itself, or the first folder or file above it that is there; raises OSError where that cannot be told."""
        return next(each for each in (self.absolute(), *self.absolute().parents) if each._is_there())

    def _is_there(self) -> bool:
        try:
            self.stat()
        except (FileNotFoundError, NotADirectoryError):
            return False
        return True


def place_of(where: Where) -> Place:
    """The place that a text (a folder's path, which may begin with ~, or s3://BUCKET/PREFIX) or a path means; raises
    ValueError for others."""
    if not isinstance(where, str):
        return Folder(where) if isinstance(where, os.PathLike) else where
    found = bucket_and_prefix(where)
    if found is None:
        return Folder(expanded(where))
    from orchestrator.s3 import S3Place

    return S3Place(*found)
