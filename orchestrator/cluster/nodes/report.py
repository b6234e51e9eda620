"""What one node of a cluster reports about itself, in a Ray task that runs there."""

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
from orchestrator.fields import plugins
from orchestrator.fields.plugins import Plugin
from orchestrator.methods.dataset_kind import DatasetKind
from orchestrator.store.place import Place
from orchestrator.store.places import place_of
from orchestrator.store.provenance import made_by
from orchestrator.work.preflight import Weights

SHARED_SECONDS = 10.0  # a network file system may show a new file with this delay
DRIVER = "driver"  # the name of the driver's file in the probe's folder


@dataclass(frozen=True)
class Probe:
    """A folder `probes/<id>` of the storage: the driver and every node write a file into it, and
    read each other's."""

    storage: str
    id: str

    @property
    def folder(self) -> Place:
        return place_of(self.storage) / "probes" / self.id

    def read(self, name: str) -> str:
        """The content of the file of `name`; raises OSError where it does not appear within
        SHARED_SECONDS."""
        until = time.monotonic() + SHARED_SECONDS
        while True:
            try:
                return (self.folder / name).read_text()
            except OSError:
                if time.monotonic() > until:
                    raise
            time.sleep(0.2)

    def write(self, name: str) -> None:
        """Write this probe's id into the file of `name`."""
        (self.folder / name).put(self.id.encode())


@dataclass
class Report:
    """One node: `addresses` to which each host's name resolves there, `storage` why the probe
    failed (empty: it did not), `free` the share and the bytes of its disk that are free, `clock` its
    time in seconds since 1970."""

    versions: dict[str, str]
    addresses: dict[str, list[str]] = field(default_factory=dict)
    storage: str = ""
    gpus: int = 0
    free: tuple[float, float] = (1.0, 0.0)
    clock: float = 0.0


def examine(name: str, probe: Probe, hosts: list[str], gpus: bool) -> Report:
    """The report of this node, whose file in the probe is `name`; `gpus`: count the GPUs that torch
    sees."""
    disk = shutil.disk_usage(_ray_folder())
    report = Report({**made_by(), "code": code()}, {host: addresses(host) for host in hosts})
    report.free = (disk.free / disk.total, float(disk.free))
    report.storage = _probe_storage(name, probe)
    if gpus:
        import torch

        report.gpus = torch.cuda.device_count()
    report.clock = time.time()
    return report


def _ray_folder() -> str:
    """The folder of Ray's sockets, logs and spilled objects on this node."""
    return str(ray_internals.session_folder() or tempfile.gettempdir())


def fingerprint(settings: DatasetKind) -> str:
    """The fingerprint of the data on this node, which downloads and decodes them if necessary;
    raises ValueError or OSError."""
    from orchestrator.plan.data import read

    return read(settings).fingerprint


def weights(needed: list[Weights], fetched: bool) -> list[tuple[str, str]]:
    """The faults of the `needed` weights on this node, each as key and message. If official weights
    are missing, they are downloaded, or without `fetched` only their servers are contacted."""
    from orchestrator.work import preflight

    check_official = preflight.fetch if fetched else preflight.unreachable
    faults = [*preflight.weights_faults(needed, ""), *check_official(needed, "")]
    return [(fault.key, fault.message) for fault in faults]


def plugin_faults(needed: list[Plugin]) -> list[str]:
    """What is wrong with each plugin on this node, with its name; nothing where this node imports
    the same source."""
    problems = {plugin.name: plugins.problem(plugin) for plugin in needed}
    return [f"{name}: {problem}" for name, problem in problems.items() if problem]


def code() -> str:
    """A digest of the project's own modules that are installed here."""
    digest = hashlib.sha256()
    for package in (kaccore, orchestrator):
        root = Path(str(package.__file__)).parent
        for path in sorted(root.rglob("*.py")):
            digest.update(f"{path.relative_to(root)}\n".encode() + path.read_bytes())
    return digest.hexdigest()[:12]


def addresses(host: str) -> list[str]:
    """The addresses to which `host` resolves on this machine; empty where it does not resolve."""
    try:
        entries = socket.getaddrinfo(host, None, socket.AF_INET)
    except OSError:
        return []
    return sorted({str(socket_address[0]) for *_, socket_address in entries})


def _probe_storage(name: str, probe: Probe) -> str:
    """Read the driver's file and write this node's; the error, empty where there is none."""
    try:
        probe.read(DRIVER)
        probe.write(name)
    except OSError as e:
        return f"{type(e).__name__}: {e.strerror or e}"
    return ""
