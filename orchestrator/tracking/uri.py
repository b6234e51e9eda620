"""Where MLflow's tracking store is: a server's address, or an SQLite file, which SQLAlchemy writes
and reads as a URI.

The embedded store is `mlflow.db` under `storage`, unless that lies on a network file system:
SQLite's locks do not hold there, and the database is then kept on a disk of this machine. It is a
view of the store and can be made again."""

import hashlib
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

from orchestrator.fields.addresses import expanded_uri
from orchestrator.host.mounts import network_kind
from orchestrator.store.folder import Folder
from orchestrator.store.place import Place

NAME = "mlflow.db"
SPECIAL = frozenset("%?#")  # what a URI gives a meaning of its own
# with it MLflow leaves a quoted path to SQLAlchemy; else it makes a folder called as quoted
DRIVER = "sqlite+pysqlite"


@dataclass(frozen=True)
class Embedded:
    """The embedded tracking store: its SQLite `file` and, where that is not in the store itself, or
    should not be, the `network` file system on which the store lies, such as nfs4."""

    file: Path
    network: str = ""

    @property
    def uri(self) -> str:
        """As MLflow is told it."""
        return sqlite_uri(self.file)


def embedded(root: Folder) -> Embedded:
    """The embedded tracking store of the store under `root`; nothing is made."""
    network = network_kind(root)
    return Embedded((_local(root) or root) / NAME if network else root / NAME, network)


def tracking_uri(setting: str | None, root: Place) -> str:
    """The tracking store: what `tracking.uri` says, or the embedded one of `root`, which is then a
    folder."""
    if setting is not None:
        return expanded_uri(setting)
    assert isinstance(root, Folder), "settings without tracking.uri are refused for a store on S3"
    return embedded(root).uri


def is_server(uri: str) -> bool:
    """Whether `uri` is the address of a tracking server."""
    return uri.startswith(("http://", "https://"))


def sqlite_uri(file: Path | str) -> str:
    """The URI of an SQLite file, by which SQLAlchemy and MLflow reach this file and no other."""
    if not SPECIAL & set(str(file)):
        return f"sqlite:///{file}"  # as people write it: blanks and other letters are no matter
    from sqlalchemy.engine import URL

    return URL.create(DRIVER, database=str(file)).render_as_string()


def sqlite_file(uri: str) -> Path | None:
    """The file that an SQLite URI means; None for anything else, and for a database in memory."""
    if not uri.startswith("sqlite"):
        return None
    from sqlalchemy.engine import make_url

    name = make_url(uri).database
    return None if name in (None, "", ":memory:") or name.startswith("file:") else Path(name)


def absolute(uri: str) -> str:
    """`uri` with its SQLite file's whole path. MLflow keeps one engine a URI: a relative one would
    go on to mean a file of the folder in which the process was first."""
    file = sqlite_file(uri)
    return uri if file is None or file.is_absolute() else sqlite_uri(file.absolute())


def local_file(uri: str) -> Path | None:
    """The file or folder of this machine that `uri` means; None for a server or another
    database."""
    if uri.startswith("file:"):
        from urllib.parse import urlsplit
        from urllib.request import url2pathname

        return Path(url2pathname(urlsplit(uri).path))
    return sqlite_file(uri) if "://" in uri else Path(uri)


def _local(root: Path) -> Path | None:
    """The folder on a disk of this machine for the database of the store `root`; None where there
    is none."""
    caches = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "kacflow"
    mine = (
        Path(tempfile.gettempdir()) / f"kacflow-{os.getuid()}"
    )  # where the home is on the network too
    free = [caches] if mine.exists() and mine.stat().st_uid != os.getuid() else [caches, mine]
    real = os.path.realpath(root)
    name = f"{Path(real).name}-{hashlib.sha256(os.fsencode(real)).hexdigest()[:12]}"
    return next((place / "mlflow" / name for place in free if not network_kind(place)), None)
