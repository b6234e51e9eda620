"""What one node of a cluster says of itself; runs there, in a Ray task."""

import hashlib
import shutil
import socket
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import kaccore
import orchestrator
from orchestrator.cluster import ray_internals
from orchestrator.methods.dataset_kind import DatasetKind
from orchestrator.store.place import Place
from orchestrator.store.places import place_of
from orchestrator.store.provenance import made_by
from orchestrator.work.preflight import Weights

SHARED_SECONDS = 10.0  # a network file system may show a new file this much later
DRIVER = "driver"  # the probe's file by which the driver is recognised


@dataclass(frozen=True)
class Probe:
    """A folder `probes/<id>` of the storage, in which the driver and every node leave a file for
    each other."""

    storage: str
    id: str

    @property
    def folder(self) -> Place:
        return place_of(self.storage) / "probes" / self.id

    def read(self, name: str) -> str:
        """What `name` has left; raises OSError where it does not appear within SHARED_SECONDS."""
        until = time.monotonic() + SHARED_SECONDS
        while True:
            try:
                return (self.folder / name).read_text()
            except OSError:
                if time.monotonic() > until:
                    raise
            time.sleep(0.2)

    def write(self, name: str) -> None:
        """Leave this probe's id under `name`."""
        (self.folder / name).put(self.id.encode())


@dataclass
class Report:
    """One node: `addresses` of each host's name as it is understood there, `storage` what is wrong
    with the storage, `free` the share of its disk and the bytes that are free, `clock` its time in
    seconds since 1970."""

    versions: dict[str, str]
    addresses: dict[str, list[str]] = field(default_factory=dict)
    storage: str = ""
    gpus: int = 0
    free: tuple[float, float] = (1.0, 0.0)
    clock: float = 0.0


def examine(name: str, probe: Probe, hosts: list[str], gpus: bool) -> Report:
    """Look round on this node, called `name`; `gpus` whether its GPUs matter."""
    disk = shutil.disk_usage(_ray_folder())
    report = Report({**made_by(), "code": code()}, {host: addresses(host) for host in hosts})
    report.free = (disk.free / disk.total, float(disk.free))
    report.storage = _share(name, probe)
    if gpus:
        import torch

        report.gpus = torch.cuda.device_count()
    report.clock = time.time()
    return report


def _ray_folder() -> str:
    """Where the Ray of this node has its sockets, logs and spilled objects."""
    return str(ray_internals.session_folder() or tempfile.gettempdir())


def fingerprint(settings: DatasetKind) -> str:
    """The fingerprint of the data as this node has it, made ready there if need be; raises
    ValueError or OSError."""
    from orchestrator.plan.data import read

    return read(settings).fingerprint


def weights(needed: list[Weights], fetched: bool) -> list[tuple[str, str]]:
    """What is wrong with the weights that are `needed` as this node has them, each as the key and
    the message of a fault. Official ones that are missing are fetched, or without `fetched` asked
    for."""
    from orchestrator.work import preflight

    more = preflight.fetch if fetched else preflight.unreachable
    return [(f.key, f.message) for f in [*preflight.weights_faults(needed, ""), *more(needed, "")]]


def code() -> str:
    """A digest of the project's own modules, as they are installed here."""
    digest = hashlib.sha256()
    for package in (kaccore, orchestrator):
        root = Path(str(package.__file__)).parent
        for path in sorted(root.rglob("*.py")):
            digest.update(f"{path.relative_to(root)}\n".encode() + path.read_bytes())
    return digest.hexdigest()[:12]


def addresses(host: str) -> list[str]:
    """What `host` means on this machine; nothing where it means nothing."""
    try:
        return sorted(
            {str(found[4][0]) for found in socket.getaddrinfo(host, None, socket.AF_INET)}
        )
    except OSError:
        return []


def _share(name: str, probe: Probe) -> str:
    try:
        probe.read(DRIVER)
        probe.write(name)
    except OSError as e:
        return f"{type(e).__name__}: {e.strerror or e}"
    return ""
