"""A folder on a disk, local or shared, as a place of the store."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path, PosixPath
from typing import Any, ClassVar

from kaccore.files import write_bytes, write_json
from orchestrator.store.place import Place

FULL_BYTES = 100_000  # with less free no store can begin


class Folder(PosixPath):
    """A folder or file of a store that lies on a disk: a Path that does what `place.Place` says."""

    poll_factor: ClassVar[int] = 1
    is_local: ClassVar[bool] = True

    def find(self, pattern: str) -> list[Place]:
        first, _, rest = pattern.partition("/")
        if rest:
            return [each for found in self.find(first) for each in found.find(rest)]
        try:
            return sorted(self.glob(first))
        except FileNotFoundError:  # the folder was removed while it was looked through
            return []

    def read_text(self, encoding: str | None = "utf-8", errors: str | None = None) -> str:
        """The text of the file, which this project writes in UTF-8 whatever the locale of this
        process."""
        return super().read_text(encoding, errors)

    def put(self, data: bytes) -> None:
        write_bytes(self, data)

    def put_json(self, value: Any) -> None:
        write_json(self, value)

    def note(self, data: bytes) -> None:
        aside = self.with_name(f".{self.name}.tmp")
        try:
            aside.write_bytes(data)
            aside.replace(self)
        except OSError:
            with suppress(OSError):
                aside.unlink()
            raise

    def rewrite(self, data: bytes) -> None:
        self.note(data)

    def create(self, data: bytes) -> bool:
        try:
            with self.open("xb") as f:
                f.write(data)
        except FileExistsError:
            return False
        return True

    def modified(self) -> float:
        return self.stat().st_mtime

    def listing(self) -> dict[str, tuple[int, int]]:
        try:
            found = [(p.name, p.stat()) for p in self.iterdir() if p.is_file()]
        except FileNotFoundError:  # removed while it was looked through
            return {}
        return {name: (status.st_size, status.st_mtime_ns) for name, status in found}

    def local(self, anew: bool = False) -> Path:
        return self

    def set_aside(self, suffix: str) -> None:
        self.rename(self.with_suffix(suffix))

    def clear(self) -> None:
        shutil.rmtree(self, ignore_errors=True)

    def draft(self) -> Path:
        folder = self / f"result.{os.getpid()}"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        return folder

    def adopt(self, drafted: Path, marker: str, said: dict[str, Any]) -> None:
        self.parent.mkdir(parents=True, exist_ok=True)
        write_json(drafted / marker, said)
        drafted.rename(self)

    def adopted(self, marker: str) -> bool:
        """Whether `adopt` has put something here, by the word of the machine that has the disk:
        `exists` may tell what this one remembers of a shared folder from half a minute ago, until
        it makes something there."""
        try:
            self.mkdir(parents=True)
        except FileExistsError:
            return (self / marker).exists()
        with suppress(OSError):  # or somebody has been here in between
            self.rmdir()
        return False

    def withdraw(self, marker: str, aside: Place, keep: bool = False) -> None:
        aside.parent.mkdir(exist_ok=True)
        self.rename(str(aside))
        if not keep:
            aside.clear()

    @contextmanager
    def staged(self) -> Iterator[Path]:
        self.mkdir(parents=True, exist_ok=True)
        yield self

    @contextmanager
    def fetched(self, *names: str) -> Iterator[Path]:
        yield self

    def problem(self) -> str:
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
        return _refusal(existing)

    def nearest(self) -> "Folder":
        """Itself, or the first folder or file above it that is there; raises OSError where that
        cannot be told."""
        return next(
            each for each in (self.absolute(), *self.absolute().parents) if each._is_there()
        )

    def _is_there(self) -> bool:
        try:
            self.stat()
        except (FileNotFoundError, NotADirectoryError):
            return False
        return True


def _refusal(folder: Path) -> str:
    """Why no folder can be made in `folder`, which the rights alone do not tell of /proc and its
    like; tried once."""
    try:
        os.rmdir(tempfile.mkdtemp(prefix=".kacflow-", dir=folder))
    except OSError as e:
        return f"but no folder can be made in {folder} ({e.strerror}): give another place"
    return ""
