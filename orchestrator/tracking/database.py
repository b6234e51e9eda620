"""MLflow's database in an SQLite file: made as a whole, brought up to date, and told where it lies.

MLflow writes down where artifacts are as whole addresses. A store that is moved would send new ones
to its old place, and one that is copied would write over the original's; `follow` makes them lie
beside the database again."""

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
from orchestrator.tracking.uri import sqlite_uri

ARTIFACTS = "mlartifacts"
BUSY_SECONDS = 20.0  # as MLflow waits for others who write
ADDRESSES = (  # the columns in which MLflow has an artifact's whole address
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "source"),
    ("model_versions", "storage_location"),
)


def artifacts_of(file: Path, experiment: str) -> str:
    """The address of the folder beside the database `file` in which an experiment's artifacts
    lie."""
    return f"{_beside(file)}/{quote(experiment)}"


def prepare(file: Path) -> list[str]:
    """Make the database `file` where it is missing, and bring the tables of an older MLflow up to
    date, of which a backup stays beside it; returns what there is to say. Raises ConfigError where
    a newer MLflow has written it, or where it cannot be read or written."""
    with _explained(file):
        return _prepared(file)


def _prepared(file: Path) -> list[str]:
    if not file.exists():
        _make(file)
        return []
    found = _revision(file)
    if found is None:  # nothing of MLflow's is in it yet, or it is none: MLflow says which
        return []
    from mlflow.store.db.utils import _get_latest_schema_revision

    if found == (newest := _get_latest_schema_revision()):
        return []
    if found not in _known():
        raise ConfigError([Fault(str(file), "", _too_new(file, found, newest))])
    return _upgrade(file, found, newest)


def follow(file: Path) -> list[str]:
    """Where the database `file` and the artifacts beside it were moved or copied from another
    place, make it say so of every artifact; returns what there is to say. Raises ConfigError where
    it cannot be read or written."""
    with _explained(file):
        return _followed(file)


def _followed(file: Path) -> list[str]:
    here, told = _beside(file), []
    with closing(sqlite3.connect(file, timeout=BUSY_SECONDS, isolation_level=None)) as database:
        if not any(_elsewhere(database, here)):
            return []
        database.execute("BEGIN IMMEDIATE")  # nobody else does the same meanwhile
        for there in _elsewhere(database, here):
            for table, column in ADDRESSES:
                if _has(database, table, column):
                    what = f"UPDATE {table} SET {column} = ? || substr({column}, ?) WHERE substr({column}, 1, ?) = ?"
                    database.execute(what, (here, len(there) + 1, len(there) + 1, f"{there}/"))
            told.append(
                f"{short(file)} came from {_path(there).parent}: its artifacts are now looked for beside it"
            )
        database.execute("COMMIT")
        names = [
            name
            for name, at in _experiments(database)
            if at.startswith(f"{here}/") and not _path(at).exists()
        ]
    if names:
        again = f"make them again from the store: rm {quoted(file)}, and publish its sweeps again"
        told.append(
            f"the artifacts of {', '.join(names)} are not in {short(file.parent / ARTIFACTS)}: bring them too, "
            f"or {again}"
        )
    return told


@contextmanager
def _explained(file: Path) -> Iterator[None]:
    """What SQLite says of `file`, also through SQLAlchemy, is raised as a ConfigError with the
    remedy."""
    try:
        yield
    except Exception as e:
        said = e if isinstance(e, sqlite3.Error) else getattr(e, "orig", None)
        if not isinstance(said, sqlite3.Error):
            raise
        raise ConfigError([Fault(str(file), "", _remedy(file, said))]) from None


def _remedy(file: Path, error: sqlite3.Error) -> str:
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF  # the rest says more of the same
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return f"another process writes MLflow's database ({error}): try again when that has ended"
    if code in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM):
        return f"MLflow's database cannot be written ({error}): make it and its folder writable, or copy the store"
    if code in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR):
        return f"the disk does not take what is written to MLflow's database ({error}): make room, or mend the disk"
    away = f"mv {quoted(file)} {quoted(file.with_name(f'{file.name}.damaged'))}"
    again = command("report", "NAME", "--publish", "--storage", file.parent)
    return f"MLflow's database is damaged, or none ({error}): make it again from the store: {away}, then {again}"


def _make(file: Path) -> None:
    """A new database, made aside and put in place as a whole: MLflow cannot go on with one that a
    full disk, or a killed process, has left half made. Where another process is faster, its
    database stays."""
    from mlflow import MlflowClient

    file.parent.mkdir(parents=True, exist_ok=True)
    with _aside(file) as aside:
        MlflowClient(tracking_uri=sqlite_uri(aside)).search_experiments(max_results=1)
        try:
            os.link(aside, file)
        except FileExistsError:
            pass
        except OSError:  # a file system without links
            aside.replace(file)


def _upgrade(file: Path, found: str, newest: str) -> list[str]:
    """Upgrade a copy, and put it in the place of the original, which becomes the backup: nothing is
    lost on the way."""
    import mlflow
    from mlflow.store.db.utils import _upgrade_db, create_sqlalchemy_engine

    with _alone(file.parent), _aside(file) as aside:
        if _revision(file) != found:  # another process has been faster
            return []
        with (
            closing(sqlite3.connect(file, timeout=BUSY_SECONDS)) as old,
            closing(sqlite3.connect(aside)) as new,
        ):
            old.backup(new)
        engine = create_sqlalchemy_engine(sqlite_uri(aside))
        _upgrade_db(engine)
        engine.dispose()
        backup = _backup(file, found)
        aside.replace(file)
    what = f"{short(file)}: upgraded from an older MLflow's tables ({found}) to those of MLflow {mlflow.__version__}"
    return [f"{what} ({newest}); as it was it is kept in {short(backup)}"]


def _backup(file: Path, revision: str) -> Path:
    """A second name, or a copy, of `file` that says its revision; of an earlier backup nothing is
    lost."""
    first = file.with_name(f"{file.name}.backup-{revision}")
    for backup in (first, *(first.with_name(f"{first.name}.{number}") for number in range(2, 100))):
        with suppress(FileExistsError):
            try:
                os.link(file, backup)
            except FileExistsError:
                raise
            except OSError:  # a file system without links
                with backup.open("xb") as copy, file.open("rb") as original:
                    shutil.copyfileobj(original, copy)
            return backup
    raise ConfigError(
        [
            Fault(
                str(file), "", f"a hundred backups lie beside it: remove those called {first.name}*"
            )
        ]
    )


def _too_new(file: Path, found: str, newest: str) -> str:
    import mlflow

    with closing(sqlite3.connect(file, timeout=BUSY_SECONDS)) as database:
        told = database.execute(
            "SELECT DISTINCT value FROM tags WHERE key = 'mlflow_version'"
        ).fetchall()
    writer = max((version for (version,) in told), key=_in_numbers, default="")
    newer = f" {writer}" if _in_numbers(writer) > _in_numbers(mlflow.__version__) else ""
    what = f"it has the tables of a newer MLflow{newer} ({found}) than this one, {mlflow.__version__} ({newest})"
    wanted = f"mlflow=={writer}" if newer else "mlflow"
    away = f"mv {quoted(file)} {quoted(file.with_name(f'{file.name}.newer'))}"
    return f"{what}: {pip('install', '--upgrade', wanted)}; or make it again from the store: {away}, and publish again"


def _in_numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".") if part.isdigit())


def _revision(file: Path) -> str | None:
    """The version of MLflow's tables in `file`; None where there is none."""
    try:
        with closing(sqlite3.connect(file, timeout=BUSY_SECONDS)) as database:
            found = database.execute("SELECT version_num FROM alembic_version").fetchone()
    except sqlite3.DatabaseError:
        return None
    return None if found is None else str(found[0])


def _known() -> set[str]:
    """The versions of its tables that this MLflow knows."""
    from alembic.script import ScriptDirectory
    from mlflow.store.db.utils import _get_alembic_config

    return {
        script.revision
        for script in ScriptDirectory.from_config(_get_alembic_config("")).walk_revisions()
    }


def _beside(file: Path) -> str:
    return (file.absolute().parent / ARTIFACTS).as_uri()


def _path(uri: str) -> Path:
    return Path(url2pathname(urlsplit(uri).path))


def _experiments(database: sqlite3.Connection) -> list[tuple[str, str]]:
    """Name and address of the artifacts of every experiment."""
    return database.execute("SELECT name, artifact_location FROM experiments").fetchall()


def _elsewhere(database: sqlite3.Connection, here: str) -> Iterator[str]:
    """The other folders in which experiments that this project has made have their artifacts. What
    other programs have put into the database is theirs; and one folder may have several names."""
    found = [(at, f"/{quote(name)}") for name, at in _experiments(database)]
    for folder in sorted({at.removesuffix(end) for at, end in found if at.endswith(end)} - {here}):
        if (
            folder.startswith("file:")
            and folder.endswith(f"/{ARTIFACTS}")
            and not _same(_path(folder), _path(here))
        ):
            yield folder


def _same(one: Path, other: Path) -> bool:
    """Whether two paths lead to one folder."""
    if os.path.realpath(one) == os.path.realpath(other):
        return True
    with suppress(OSError):
        return one.samefile(other)
    return False


def _has(database: sqlite3.Connection, table: str, column: str) -> bool:
    return any(name == column for _, name, *_ in database.execute(f"PRAGMA table_info({table})"))


@contextmanager
def _aside(file: Path) -> Iterator[Path]:
    """A name beside `file` for what is to take its place; what is left there is removed."""
    aside = file.with_name(f".{file.name}.{os.getpid()}.tmp")
    aside.unlink(missing_ok=True)
    try:
        yield aside
    finally:
        for left in (
            aside,
            *(aside.with_name(f"{aside.name}-{end}") for end in ("journal", "wal", "shm")),
        ):
            left.unlink(missing_ok=True)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """While this is open no other process of this machine is in it for the same folder."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
