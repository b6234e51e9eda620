"""A copy of MLflow's database in a store on a network file system, where SQLite's locks do not work.

Each machine works on a database of its own (`uri.embedded`), and the machines exchange the copy. A
process that publishes first takes over what others have put into it, adds its own sweep, and replaces
it, all under a lease. So the last copy has the sweeps of all machines. On the network file system
files are only read and written as a whole, and replaced by a rename.

Each copy has another version: SQLite's `user_version`, which MLflow leaves alone. A database whose
version is not the copy's lacks what another machine has published."""

import os
import secrets
import shutil
import sqlite3
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

from orchestrator.host.printed import short
from orchestrator.store import layout
from orchestrator.store.folder import Folder
from orchestrator.tracking.database import BUSY_SECONDS, folder_lock, sqlite_errors_explained
from orchestrator.tracking.uri import Embedded

# what the copy lacks where a machine is lost; copying a database of 100 MB takes a second
COPY_SECONDS = 300.0
VERSIONS = 2**31 - 1  # of `user_version`


class SharedCopy:
    """The copy in the store `root` of this machine's database `file`."""

    def __init__(self, root: Folder, file: Path) -> None:
        self.file = file
        self.folder = root / layout.MLFLOW
        self.copy = Path(self.folder) / file.name

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Let no other process of this machine take over a copy, or publish, meanwhile."""
        self.file.parent.mkdir(parents=True, exist_ok=True)
        with folder_lock(self.file.parent):
            yield

    def version(self) -> int:
        """The version of this machine's database: of the copy that it began with, or last made. 0
        where there is neither."""
        return _version(self.file)

    def take_over(self) -> bool:
        """Replace the content of this machine's database by that of the copy, where another machine
        has made that; returns whether it did. Raises ConfigError for a damaged copy."""
        with tempfile.TemporaryDirectory(dir=self.file.parent) as folder:
            fetched = Path(folder) / self.file.name
            try:
                shutil.copyfile(self.copy, fetched)
            except FileNotFoundError:  # nobody has published yet
                return False
            with sqlite_errors_explained(self.copy):
                if _version(fetched) == self.version():
                    return False
                _backup(fetched, self.file)
        return True

    def replace(self) -> None:
        """Write the copy again from this machine's database. The caller holds the lease on `folder`."""
        with sqlite_errors_explained(self.file), closing(_open(self.file)) as database:
            database.execute(f"PRAGMA user_version = {1 + secrets.randbelow(VERSIONS)}")
        with tempfile.TemporaryDirectory(dir=self.file.parent) as folder:
            consistent = Path(folder) / self.file.name
            with sqlite_errors_explained(self.file):
                _backup(self.file, consistent)
            new = self.copy.with_name(f".{self.copy.name}.{secrets.token_hex(4)}.tmp")
            try:
                with new.open("wb") as target, consistent.open("rb") as source:
                    shutil.copyfileobj(source, target)
                    target.flush()
                    os.fsync(target.fileno())
                new.replace(self.copy)
            finally:
                new.unlink(missing_ok=True)

    def age(self) -> str:
        """The line that says what this machine's database shows of the copy, and from when that is;
        empty where there is no copy."""
        with suppress(FileNotFoundError):
            made = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(self.copy.stat().st_mtime))
            return f"MLflow's database as it was published at {made}, in {short(self.copy)}"
        return ""


def shared_copy(root: Folder, database: Embedded) -> SharedCopy | None:
    """The copy of the embedded `database` of the store `root`; None where the database itself is in
    the store."""
    return SharedCopy(root, database.file) if database.is_elsewhere(root) else None


def fetch(root: Folder, database: Embedded) -> str:
    """Bring this machine's `database` up to the copy in the store `root`, if it has one; returns the
    line of `age`."""
    copy = shared_copy(root, database)
    if copy is None:
        return ""
    with copy.alone():
        copy.take_over()
    return copy.age()


def _version(file: Path) -> int:
    if not file.exists():
        return 0
    with closing(_open(file)) as database:
        return int(database.execute("PRAGMA user_version").fetchone()[0])


def _backup(source: Path, target: Path) -> None:
    """Make `target`, which others may read meanwhile, what `source` is at one moment."""
    with closing(_open(source)) as old, closing(_open(target)) as new:
        old.backup(new)


def _open(file: Path) -> sqlite3.Connection:
    return sqlite3.connect(file, timeout=BUSY_SECONDS)
