"""Where MLflow's tracking store is: a server's address, or an SQLite file, given as a URI of
SQLAlchemy's.

The embedded store is `mlflow.db` under `storage`. If `storage` is on a network file system, where
SQLite's locks do not work, the database is on a disk of this machine instead, and the store has a
copy of it (`shared_copy`), next to which the artifacts are. It is a view of the store and can be
rebuilt."""

import hashlib
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

from orchestrator.fields.addresses import expanded_uri
from orchestrator.host.mounts import network_kind
from orchestrator.store import layout
from orchestrator.store.folder import Folder
from orchestrator.store.place import Place

NAME = "mlflow.db"
ARTIFACTS = "mlartifacts"  # the folder of the artifacts, next to a database
SPECIAL = frozenset("%?#")  # characters with a meaning in a URI
# with this driver MLflow leaves unquoting the path to SQLAlchemy; else it takes the quotes literally
DRIVER = "sqlite+pysqlite"


@dataclass(frozen=True)
class Embedded:
    """The embedded tracking store: its SQLite `file`, and the `network` file system of the store,
    such as nfs4; empty if the store is on a local disk, and `file` in it."""

    file: Path
    network: str = ""

    @property
    def uri(self) -> str:
        """The URI for MLflow."""
        return sqlite_uri(self.file)

    def is_elsewhere(self, root: Folder) -> bool:
        """Whether the database of the store `root` is on a disk of this machine, and not in it."""
        return self.file.parent != root


def embedded(root: Folder) -> Embedded:
    """The embedded tracking store of the store under `root`; nothing is created."""
    network = network_kind(root)
    return Embedded((_local_folder(root) or root) / NAME if network else root / NAME, network)


def tracking_uri(setting: str | None, root: Place) -> str:
    """The tracking store: `setting`, the value of `tracking.uri`, or the embedded store of `root`,
    which then is a folder."""
    if setting is not None:
        return expanded_uri(setting)
    assert isinstance(root, Folder), "settings without tracking.uri are refused for a store on S3"
    return embedded(root).uri


def artifacts(setting: str | None, root: Place) -> Path | None:
    """The folder of the artifacts of the tracking store that `tracking_uri` names for the same
    arguments; None for a server or another database, which has its own."""
    file = sqlite_file(tracking_uri(setting, root))
    if setting is None and isinstance(root, Folder) and embedded(root).is_elsewhere(root):
        return root / layout.MLFLOW / ARTIFACTS
    return None if file is None else file.parent / ARTIFACTS


def is_server(uri: str) -> bool:
    """Whether `uri` is the address of a tracking server."""
    return uri.startswith(("http://", "https://"))


def sqlite_uri(file: Path | str) -> str:
    """The URI by which SQLAlchemy and MLflow open exactly this SQLite file."""
    if not SPECIAL & set(str(file)):
        return f"sqlite:///{file}"  # as people write it: spaces and other letters are no problem
    from sqlalchemy.engine import URL

    return URL.create(DRIVER, database=str(file)).render_as_string()


def sqlite_file(uri: str) -> Path | None:
    """The file of an SQLite URI; None for any other URI, and for a database in memory."""
    if not uri.startswith("sqlite"):
        return None
    from sqlalchemy.engine import make_url

    name = make_url(uri).database
    return None if name in (None, "", ":memory:") or name.startswith("file:") else Path(name)


def absolute(uri: str) -> str:
    """`uri` with an absolute path to its SQLite file. MLflow keeps one engine for each URI: a
    relative one would keep naming a file in the process's first working folder."""
    file = sqlite_file(uri)
    return uri if file is None or file.is_absolute() else sqlite_uri(file.absolute())


def local_file(uri: str) -> Path | None:
    """The file or folder of this machine that `uri` names; None for a server or another
    database."""
    if uri.startswith("file:"):
        from urllib.parse import urlsplit
        from urllib.request import url2pathname

        return Path(url2pathname(urlsplit(uri).path))
    return sqlite_file(uri) if "://" in uri else Path(uri)


def _local_folder(root: Path) -> Path | None:
    """The folder on a disk of this machine for the database of the store `root`; None if this
    machine has no local disk."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "kacflow"
    candidates = [cache]
    temporary = Path(tempfile.gettempdir()) / f"kacflow-{os.getuid()}"  # if the home is remote too
    if not temporary.exists() or temporary.stat().st_uid == os.getuid():
        candidates.append(temporary)
    real = os.path.realpath(root)
    name = f"{Path(real).name}-{hashlib.sha256(os.fsencode(real)).hexdigest()[:12]}"
    for folder in candidates:
        if not network_kind(folder):
            return folder / "mlflow" / name
    return None
