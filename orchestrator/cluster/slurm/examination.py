"""Checks Slurm before a job waits for hours to fail: what a login node knows, and what one node sees
in a job of seconds. All faults at once."""

import errno
import json
import math
import os
import secrets
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path

from orchestrator.cluster.nodes import node_faults
from orchestrator.cluster.nodes.examination import remove, storage_problem
from orchestrator.cluster.nodes.node_faults import Node
from orchestrator.cluster.nodes.report import DRIVER, Probe, Report
from orchestrator.cluster.slurm import scheduler, script
from orchestrator.cluster.slurm.on_node import Request
from orchestrator.cluster.slurm.scheduler import NoNodeFreeError, Partition, SlurmError
from orchestrator.cluster.slurm.storage import local_storage
from orchestrator.fields.faults import Fault
from orchestrator.settings.experiment import Experiment
from orchestrator.store.failures import first_line
from orchestrator.store.folder import Folder
from orchestrator.store.places import place_of
from orchestrator.store.store import with_remedy

SLURM = "slurm"  # the source of what is wrong with it
FREE_SECONDS = 20  # in which a node has to be free; a longer wait would look like a hang
JOB_MINUTES = 3  # of the job: a node may have to import torch from a slow file system
ROOM_BYTES = (
    64_000_000  # written to find a full quota: networks, checkpoints and pictures need more
)
USEFUL_MINUTES = 5  # Ray's start, some training, and the time before the limit for checkpoints
NO_PYTHON = 42  # the status of the job where there is no such Python
NODE_MODULE = "orchestrator.cluster.slurm.on_node"


@dataclass
class Findings:
    """Facts, one a line; the node that answered with its report, if one did; faults."""

    lines: list[str] = field(default_factory=list)
    node: tuple[Node, Report] | None = None
    faults: list[Fault] = field(default_factory=list)


def examine(experiment: Experiment, source: str, wanted: str | None = None) -> Findings:
    """Examine Slurm, its partition `wanted` (None: its default one) and one node of it for
    `experiment`, whose file faults name as `source`."""
    found = Findings()
    if not scheduler.available():
        message = "this machine has no sbatch: run it on a login node"
        found.faults.append(Fault("--slurm", "", message))
        return found
    found.faults += _storage_faults(experiment, source)
    try:
        known = scheduler.partitions()
        partition = scheduler.chosen_of(known, wanted)
        if partition is None:
            found.faults.append(Fault("--partition", "", scheduler.unknown(known, wanted)))
            return found
        absent = scheduler.absent(partition.name)
    except SlurmError as error:
        found.faults.append(Fault(SLURM, "", _explained(f"it does not answer: {error}")))
        return found
    found.lines += _about(partition, absent)
    found.faults += partition_faults(partition, experiment, source)
    _ask_a_node(found, partition, experiment, source)
    return found


def _about(partition: Partition, absent: Sequence[str]) -> Iterator[str]:
    limit = "no time limit"
    if partition.minutes is not None:
        limit = f"at most {script.clock(partition.minutes)} at a time"
    gpus = f" and {partition.gpus} GPUs" if partition.gpus else ""
    nodes = "1 node" if partition.nodes == 1 else f"{partition.nodes} nodes"
    what = f"{nodes}, {partition.cpus} CPUs{gpus} each"
    yield f"partition {partition.name}: {what}, {limit}"
    for line in absent:
        yield f"note: node {line}"


def partition_faults(partition: Partition, experiment: Experiment, source: str) -> Iterator[Fault]:
    """Why no job of `partition` can run `experiment`, or get far."""
    cluster, name = experiment.cluster, partition.name
    for kind, per_worker, there in (
        ("cpus", cluster.cpus_per_worker, partition.cpus),
        ("gpus", cluster.gpus_per_worker, partition.gpus),
    ):
        if per_worker > there:
            got = f"got {per_worker:g}, but nodes of partition {name} have {there}"
            yield Fault(
                source,
                f"cluster.{kind}_per_worker",
                f"{got}: lower it, or give another --partition",
            )
    if partition.minutes is not None and partition.minutes < USEFUL_MINUTES:
        got = f"its time limit is {script.clock(partition.minutes)}"
        lead = f"{script.SIGNAL_SECONDS} s before the limit a sweep stops to write its checkpoints"
        remedy = f"give a --partition of {USEFUL_MINUTES} minutes or more"
        yield Fault(f"partition {name}", "", f"{got}, and {lead}: {remedy}")


def _storage_faults(experiment: Experiment, source: str) -> Iterator[Fault]:
    """What is wrong with the folders of a sweep, as this machine sees them."""
    if fault := local_storage(experiment, source):
        yield fault
    elif "://" not in experiment.storage:
        yield from _full(Folder(experiment.storage).nearest(), source, "storage")
    # the script and its logs
    yield from _full(Path.cwd(), "this folder", "")


def _full(folder: Path, source: str, key: str) -> Iterator[Fault]:
    """A fault where `folder` has no room for ROOM_BYTES: a quota shows when it is reached, and in no
    number of free bytes."""
    file = folder / f".room-{secrets.token_hex(6)}"
    try:
        with file.open("wb") as target:
            for _ in range(ROOM_BYTES // 1_000_000):
                target.write(bytes(1_000_000))
            target.flush()
            os.fsync(target.fileno())
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        got = f"has no room for {ROOM_BYTES // 1_000_000} MB" if full else "cannot be written"
        yield Fault(source, key, f"{folder} {got}: {with_remedy(error)}")
    finally:
        with suppress(OSError):
            file.unlink(missing_ok=True)


def _ask_a_node(found: Findings, partition: Partition, experiment: Experiment, source: str) -> None:
    """Add what one node of `partition` sees to `found`."""
    gpus = math.ceil(experiment.cluster.gpus_per_worker) or min(1, partition.gpus)
    options = [f"--partition={partition.name}", *([f"--gpus-per-node={gpus}"] if gpus else [])]
    limit = JOB_MINUTES if partition.minutes is None else min(JOB_MINUTES, partition.minutes)
    probe = Probe(str(place_of(experiment.storage).absolute()), secrets.token_hex(6))
    # whether the storage may be one that nodes see; that it is not has been said otherwise
    shared = local_storage(experiment, source) is None
    python = sys.executable
    try:
        with _token(probe.id) as token, _opened(probe, shared) as problem:
            if problem:
                found.faults.append(
                    Fault(source, "storage", f"got {experiment.storage}: {problem}")
                )
            request = Request(probe.storage, probe.id, token, str(Path.cwd()), bool(gpus))
            check = (
                f'[ -x "$0" ] || {{ hostname; exit {NO_PYTHON}; }}; exec "$0" -m {NODE_MODULE} "$1"'
            )
            asked = ["/bin/bash", "-c", check, python, json.dumps(asdict(request))]
            began = time.time()
            said = scheduler.run_on_a_node(
                asked, options, f"kacflow-doctor-{probe.id}", FREE_SECONDS, limit
            )
            ended = time.time()
            if said.returncode:
                found.faults.append(_cannot_run(said.returncode, said.stdout, said.stderr, python))
                return
            answer = json.loads(said.stdout.strip().splitlines()[-1])
            report = Report(**answer["report"])
            report.clock -= min(max(report.clock, began), ended)  # it was read between the two
            host = answer["host"]
            node = Node(host, host, next(iter(report.addresses.get(host, [])), host), 0.0)
            found.node = (node, report)
            found.lines.append(f"node {node.host} answered, of partition {partition.name}")
            found.faults += node_faults.node_faults({node: report}, experiment, source)
            if shared and not problem:
                problems = {node: storage_problem(node, probe, report)}
                found.faults += node_faults.storage_faults(problems, experiment, source)
            found.faults += _faults_of(answer, gpus, report, source)
    except NoNodeFreeError:
        message = (
            f"no node of partition {partition.name} was free within {FREE_SECONDS} s, so what a node "
            "sees was not checked: run it again later, or give another --partition"
        )
        found.faults.append(Fault(SLURM, "", message))
    except SlurmError as error:
        text = f"it cannot run a job on a node of partition {partition.name}: {error}"
        found.faults.append(Fault(SLURM, "", _explained(text)))


def _faults_of(
    answer: dict[str, object], gpus: int, report: Report, source: str
) -> Iterator[Fault]:
    """What a node sees otherwise than this machine, or lacks."""
    node = f"node {answer['host']}"
    if not answer["home"]:
        what = f"it does not see the home of this machine, {Path.home()}"
        remedy = "keep the environment, the experiment and the storage in a folder that nodes share"
        yield Fault(node, "", f"{what}: {remedy}")
    if not answer["folder"]:
        what = f"it does not see this folder, {Path.cwd()}"
        yield Fault(node, "", f"{what}: run the sweep from a folder that nodes share")
    ports = answer["ports"]
    assert isinstance(ports, list)
    if ports:
        listed = ", ".join(map(str, ports))
        remedy = "a job takes others by its number: run this again, and ask the administrator for free ones"
        yield Fault(node, "", f"the ports of Ray are in use there, {listed}: {remedy}")
    if answer["cuda"]:
        what = f"torch {report.versions.get('torch')} cannot use its GPUs ({answer['cuda']})"
        remedy = "install torch for the CUDA of the driver there"
        yield Fault(node, "", f"{what}: {remedy}")
    elif report.gpus < gpus:
        what = f"torch sees {report.gpus} of {gpus} GPUs that Slurm gives"
        yield Fault(source, "cluster.gpus_per_worker", f"{what} on {node}: ask the administrator")


def _cannot_run(status: int, out: str, err: str, python: str) -> Fault:
    if status == NO_PYTHON:
        host = out.strip().splitlines()[-1] if out.strip() else "a node"
        remedy = "make the environment in a folder that nodes share"
        return Fault(f"node {host}", "", f"it does not see this Python, {python}: {remedy}")
    lines = [line for line in err.strip().splitlines() if not line.startswith("srun: ")]
    why = lines[-1] if lines else f"status {status}"
    message = f"a node cannot run this project ({why}): make its environment whole there"
    return Fault(SLURM, "", message)


def _explained(message: str) -> str:
    """`message` with the remedy."""
    # where a node cannot check who asks, it closes the connection
    signs = ("munge", "authentication", "credential", "zero bytes")
    if any(sign in message.lower() for sign in signs):
        remedy = "ask the administrator to start it"
        return f"{message}: most often munge does not run there, or has another key: {remedy}"
    return f"{message}: sinfo --list-reasons says what is known of its nodes; ask the administrator"


@contextmanager
def _token(name: str) -> Iterator[str]:
    """A file in the home, for a node to see."""
    file = Path.home() / f".kacflow-doctor-{name}"
    with suppress(OSError):  # a full quota is found by `_full`
        file.touch()
    try:
        yield str(file)
    finally:
        with suppress(OSError):
            file.unlink(missing_ok=True)


@contextmanager
def _opened(probe: Probe, shared: bool) -> Iterator[str]:
    """The folder of a probe with the file of this machine; yields why there is none, empty where
    there is one."""
    if not shared:
        yield ""
        return
    problem = ""
    try:
        try:
            probe.folder.mkdir(parents=True)
            probe.write(DRIVER)
        except OSError as error:
            problem = first_line(error)
        yield problem
    finally:
        remove(probe)
