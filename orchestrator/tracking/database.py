"""MLflow's database in an SQLite file: created atomically, upgraded, and adapted to a new location.

MLflow stores the absolute address of every artifact. A store that was moved would therefore write
new artifacts to its old location, and a copy would overwrite those of the original.
`relocate_artifacts` changes these addresses to the folder next to the database, or to the folder in
the store of a database that lies elsewhere."""

import fcntl
import os
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from urllib.parse import quote, urlsplit
from urllib.request import url2pathname

from orchestrator.fields.faults import ConfigError, Fault
from orchestrator.host.printed import command, pip, quoted, short
from orchestrator.tracking.uri import ARTIFACTS, sqlite_uri

BUSY_SECONDS = 20.0  # how long MLflow itself waits for other writers
ADDRESSES = (  # the columns in which MLflow stores an absolute artifact address
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "source"),
    ("model_versions", "storage_location"),
)


def artifacts_of(folder: Path, experiment: str) -> str:
    """The address of an experiment's artifacts in `folder`, a database's `uri.artifacts`."""
    return f"{folder.absolute().as_uri()}/{quote(experiment)}"


def create_or_upgrade(file: Path) -> list[str]:
    """Create the database `file` if it is missing; upgrade the tables of an older MLflow and keep
    a backup next to it. Returns a line for each change.

    Raises ConfigError if a newer MLflow wrote it, or if it cannot be read or written."""
    with sqlite_errors_explained(file):
        return _create_or_upgrade(file)


def _create_or_upgrade(file: Path) -> list[str]:
    if not file.exists():
        _create(file)
        return []
    revision = _revision(file)
    if revision is None:  # no MLflow tables yet, or not a database: MLflow says which
        return []
    from mlflow.store.db.utils import _get_latest_schema_revision

    newest = _get_latest_schema_revision()
    if revision == newest:
        return []
    if revision not in _known_revisions():
        raise ConfigError([Fault(str(file), "", _too_new(file, revision, newest))])
    return _upgrade(file, revision, newest)


def relocate_artifacts(file: Path, folder: Path | None = None) -> list[str]:
    """If the database `file` was moved or copied with its artifacts, update the address of every
    artifact to `folder`, by default the one next to it. Returns a line for each change. Raises
    ConfigError if the database cannot be read or written."""
    with sqlite_errors_explained(file):
        return _relocate_artifacts(file, (folder or file.parent / ARTIFACTS).absolute())


def _relocate_artifacts(file: Path, folder: Path) -> list[str]:
    here = folder.as_uri()
    where = "the folder next to it" if folder.parent == file.absolute().parent else short(folder)
    notes: list[str] = []
    with closing(sqlite3.connect(file, timeout=BUSY_SECONDS, isolation_level=None)) as database:
        if not any(_other_folders(database, here)):
            return []
        database.execute("BEGIN IMMEDIATE")  # only one process does this at a time
        for there in _other_folders(database, here):
            for table, column in ADDRESSES:
                if _has_column(database, table, column):
                    those = f"WHERE substr({column}, 1, ?) = ?"
                    update = f"UPDATE {table} SET {column} = ? || substr({column}, ?) {those}"
                    database.execute(update, (here, len(there) + 1, len(there) + 1, f"{there}/"))
            notes.append(
                f"{short(file)} was moved or copied from {_path_of(there).parent}: its artifacts are now read from "
                f"{where}"
            )
        database.execute("COMMIT")
        names = [
            name
            for name, address in _experiments(database)
            if address.startswith(f"{here}/") and not _path_of(address).exists()
        ]
    if names:
        rebuild = f"rebuild them from the store: rm {quoted(file)}, and publish its sweeps again"
        notes.append(
            f"the artifacts of {', '.join(names)} are not in {short(folder)}: copy them there, "
            f"or {rebuild}"
        )
    return notes


@contextmanager
def sqlite_errors_explained(file: Path) -> Iterator[None]:
    """Raise an SQLite error about `file`, also one that SQLAlchemy wraps, as a ConfigError with a
    remedy."""
    try:
        yield
    except Exception as e:
        error = e if isinstance(e, sqlite3.Error) else getattr(e, "orig", None)
        if not isinstance(error, sqlite3.Error):
            raise
        raise ConfigError([Fault(str(file), "", _remedy(file, error))]) from None


def _remedy(file: Path, error: sqlite3.Error) -> str:
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF  # the primary result code
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return f"another process is writing to MLflow's database ({error}): retry when it has ended"
    if code in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM):
        return f"MLflow's database cannot be written ({error}): make it and its folder writable, or copy the store"
    if code in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR):
        return f"writing to MLflow's database failed ({error}): free disk space, or repair the disk"
    rename = f"mv {quoted(file)} {quoted(file.with_name(f'{file.name}.damaged'))}"
    publish = command("report", "NAME", "--publish", "--storage", file.parent)
    return (
        f"MLflow's database is damaged, or not a database ({error}): rebuild it from the store: {rename}, "
        f"then {publish}"
    )


def _create(file: Path) -> None:
    """Create a database in a temporary file and move it into place atomically: MLflow cannot use
    one that a full disk or a killed process left incomplete. If another process is faster, its
    database stays."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with _temporary_file(file) as temporary:
        make_tables(temporary)
        try:
            os.link(temporary, file)
        except FileExistsError:
            pass
        except OSError:  # a file system without hard links
            temporary.replace(file)


def make_tables(file: Path) -> None:
    """Make MLflow's tables in the database `file`, which is missing or empty. MLflow applies all of
    its migrations in sequence, which takes a second."""
    from mlflow import MlflowClient

    MlflowClient(tracking_uri=sqlite_uri(file)).search_experiments(max_results=1)


def _upgrade(file: Path, revision: str, newest: str) -> list[str]:
    """Upgrade a copy of the database and replace the original by it; the original becomes the
    backup, so nothing is lost if the upgrade fails."""
    import mlflow
    from mlflow.store.db.utils import _upgrade_db, create_sqlalchemy_engine

    with folder_lock(file.parent), _temporary_file(file) as temporary:
        if _revision(file) != revision:  # another process was faster
            return []
        with (
            closing(sqlite3.connect(file, timeout=BUSY_SECONDS)) as old,
            closing(sqlite3.connect(temporary)) as new,
        ):
            old.backup(new)
        engine = create_sqlalchemy_engine(sqlite_uri(temporary))
        _upgrade_db(engine)
        engine.dispose()
        backup = _backup(file, revision)
        temporary.replace(file)
    what = f"{short(file)}: upgraded from an older MLflow's tables ({revision}) to those of MLflow {mlflow.__version__}"
    return [f"{what} ({newest}); the backup is {short(backup)}"]


def _backup(file: Path, revision: str) -> Path:
    """A hard link to `file`, or a copy of it, whose name has the revision. An earlier backup is
    never overwritten."""
    first = file.with_name(f"{file.name}.backup-{revision}")
    for backup in (first, *(first.with_name(f"{first.name}.{number}") for number in range(2, 100))):
        with suppress(FileExistsError):
            try:
                os.link(file, backup)
            except FileExistsError:
                raise
            except OSError:  # a file system without hard links
                with backup.open("xb") as copy, file.open("rb") as original:
                    shutil.copyfileobj(original, copy)
            return backup
    problem = f"there are a hundred backups of it already: remove {first.name}*"
    raise ConfigError([Fault(str(file), "", problem)])


def _too_new(file: Path, revision: str, newest: str) -> str:
    import mlflow

    with closing(sqlite3.connect(file, timeout=BUSY_SECONDS)) as database:
        versions = database.execute(
            "SELECT DISTINCT value FROM tags WHERE key = 'mlflow_version'"
        ).fetchall()
    writer = max((version for (version,) in versions), key=_version_numbers, default="")
    newer = f" {writer}" if _version_numbers(writer) > _version_numbers(mlflow.__version__) else ""
    what = f"it has the tables of a newer MLflow{newer} ({revision}); installed is {mlflow.__version__} ({newest})"
    package = f"mlflow=={writer}" if newer else "mlflow"
    rename = f"mv {quoted(file)} {quoted(file.with_name(f'{file.name}.newer'))}"
    return f"{what}: {pip('install', '--upgrade', package)}; or rebuild it from the store: {rename}, and publish again"


def _version_numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".") if part.isdigit())


def _revision(file: Path) -> str | None:
    """The schema revision of MLflow's tables in `file`; None if there is none."""
    try:
        with closing(sqlite3.connect(file, timeout=BUSY_SECONDS)) as database:
            row = database.execute("SELECT version_num FROM alembic_version").fetchone()
    except sqlite3.DatabaseError:
        return None
    return None if row is None else str(row[0])


def _known_revisions() -> set[str]:
    """The schema revisions that this MLflow knows."""
    from alembic.script import ScriptDirectory
    from mlflow.store.db.utils import _get_alembic_config

    return {
        script.revision
        for script in ScriptDirectory.from_config(_get_alembic_config("")).walk_revisions()
    }


def _path_of(uri: str) -> Path:
    return Path(url2pathname(urlsplit(uri).path))


def _experiments(database: sqlite3.Connection) -> list[tuple[str, str]]:
    """Name and artifact address of every experiment."""
    return database.execute("SELECT name, artifact_location FROM experiments").fetchall()


def _other_folders(database: sqlite3.Connection, here: str) -> Iterator[str]:
    """The artifact folders, other than `here`, of experiments that this project created.
    Experiments of other programs are left as they are. One folder may have several paths."""
    folders = set[str]()
    for name, address in _experiments(database):
        suffix = f"/{quote(name)}"
        if address.endswith(suffix):
            folders.add(address.removesuffix(suffix))
    for folder in sorted(folders - {here}):
        ours = folder.startswith("file:") and folder.endswith(f"/{ARTIFACTS}")
        if ours and not _same_folder(_path_of(folder), _path_of(here)):
            yield folder


def _same_folder(one: Path, other: Path) -> bool:
    """Whether two paths name one folder."""
    if os.path.realpath(one) == os.path.realpath(other):
        return True
    with suppress(OSError):
        return one.samefile(other)
    return False


def _has_column(database: sqlite3.Connection, table: str, column: str) -> bool:
    return any(name == column for _, name, *_ in database.execute(f"PRAGMA table_info({table})"))


@contextmanager
def _temporary_file(file: Path) -> Iterator[Path]:
    """A path next to `file` for a database that will replace it by an atomic rename; afterwards it
    and SQLite's files next to it are removed."""
    temporary = file.with_name(f".{file.name}.{os.getpid()}.tmp")
    temporary.unlink(missing_ok=True)
    try:
        yield temporary
    finally:
        temporary.unlink(missing_ok=True)
        for suffix in ("journal", "wal", "shm"):
            temporary.with_name(f"{temporary.name}-{suffix}").unlink(missing_ok=True)


@contextmanager
def folder_lock(folder: Path) -> Iterator[None]:
    """Hold an exclusive lock on `folder` among the processes of this machine."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
