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

FULL_BYTES = 100_000  # with fewer free bytes the disk counts as full


class Folder(PosixPath):
    """A folder or file of a store on a disk: a Path with the operations of `place.Place`."""

    poll_factor: ClassVar[int] = 1
    is_local: ClassVar[bool] = True

    def find(self, pattern: str) -> list[Place]:
        first, _, rest = pattern.partition("/")
        if rest:
            return [match for folder in self.find(first) for match in folder.find(rest)]
        try:
            return sorted(self.glob(first))
        except FileNotFoundError:  # the folder was removed meanwhile
            return []

    def read_text(self, encoding: str | None = "utf-8", errors: str | None = None) -> str:
        """The text of the file. This project writes UTF-8, independent of the locale."""
        return super().read_text(encoding, errors)

    def put(self, data: bytes) -> None:
        write_bytes(self, data)

    def put_json(self, value: Any) -> None:
        write_json(self, value)

    def put_fast(self, data: bytes) -> None:
        temporary = self.with_name(f".{self.name}.tmp")
        try:
            temporary.write_bytes(data)
            temporary.replace(self)
        except OSError:
            with suppress(OSError):
                temporary.unlink()
            raise

    def rewrite(self, data: bytes) -> None:
        self.put_fast(data)

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
            files = [(path.name, path.stat()) for path in self.iterdir() if path.is_file()]
        except FileNotFoundError:  # removed meanwhile
            return {}
        return {name: (status.st_size, status.st_mtime_ns) for name, status in files}

    def local(self, refresh: bool = False) -> Path:
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

    def commit(self, draft: Path, marker: str, content: dict[str, Any]) -> None:
        self.parent.mkdir(parents=True, exist_ok=True)
        write_json(draft / marker, content)
        draft.rename(self)

    def committed(self, marker: str) -> bool:
        """Whether `commit` has put something here. The answer comes from the file server: `exists`
        may read this machine's cache of a shared folder, up to 30 seconds old, but `mkdir` bypasses
        the cache."""
        try:
            self.mkdir(parents=True)
        except FileExistsError:
            return (self / marker).exists()
        with suppress(OSError):  # another process may have written here meanwhile
            self.rmdir()
        return False

    def withdraw(self, marker: str, target: Place, keep: bool = False) -> None:
        target.parent.mkdir(exist_ok=True)
        self.rename(str(target))
        if not keep:
            target.clear()

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
        except OSError as e:  # a name that is too long, or a folder without access
            return f"but it cannot be used: {e.strerror}"
        if not existing.is_dir():
            return f"but {existing} is a file"
        if not os.access(existing, os.W_OK | os.X_OK):
            return f"but {existing} cannot be written"
        disk = os.statvfs(existing)  # a mounted bucket has no size: zero blocks
        blocks = disk.f_bfree if os.geteuid() == 0 else disk.f_bavail
        no_space = disk.f_blocks and blocks * disk.f_frsize < FULL_BYTES
        no_inodes = disk.f_files and not disk.f_ffree
        if no_space or no_inodes:
            return f"but the disk of {existing} is full: make room"
        return _creation_problem(existing)

    def nearest(self) -> "Folder":
        """This path, or its nearest parent that exists; raises OSError where a parent cannot be
        read."""
        path = self.absolute()
        while not path._exists():
            path = path.parent
        return path

    def _exists(self) -> bool:
        """Unlike `exists`, raises OSError for every other error than a missing file."""
        try:
            self.stat()
        except (FileNotFoundError, NotADirectoryError):
            return False
        return True


def _creation_problem(folder: Path) -> str:
    """Why no folder can be created in `folder`; tries it once, because permissions alone do not
    show it, for example in /proc."""
    try:
        os.rmdir(tempfile.mkdtemp(prefix=".kacflow-", dir=folder))
    except OSError as e:
        return f"but no folder can be made in {folder} ({e.strerror}): give another place"
    return ""
