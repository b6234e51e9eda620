"""What Slurm's own commands answer: partitions, submitted jobs, and why a job waits."""

import re
import shutil
import subprocess
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass

from orchestrator.cluster.slurm.script import Allocation, clock, minutes_of

PATIENCE = 30.0  # seconds for an answer
ABSENT = ("down", "drain", "fail", "maint", "unk")  # how the states of such nodes begin
# in what sbatch says of a job that would wait
LATER = (
    "Requested nodes are busy", "Required node not available", "Nodes required for job are DOWN",
    "Requested partition configuration not available now",
)  # fmt: skip
# in what srun says where --immediate is over
BUSY = (
    "Requested nodes are busy",
    "Immediate execution impossible",
    "Unable to allocate resources: Timed out",
)
LAUNCH = re.compile(r"launch.* failed")  # in what it says where the node does not take the job
UNLIMITED = ("infinite", "UNLIMITED", "NOT_SET", "n/a")


class SlurmError(Exception):
    """A command of Slurm's failed; the message is its own."""


@dataclass(frozen=True)
class Partition:
    """A partition: its `nodes`, the most `cpus` and `gpus` of one, and its time limit in minutes, None:
    there is none."""

    name: str
    is_default: bool
    nodes: int
    cpus: int
    gpus: int
    minutes: int | None


def available() -> bool:
    """Whether this machine has Slurm's commands."""
    return shutil.which("sbatch") is not None


def partitions() -> list[Partition]:
    """The partitions that are up. Raises SlurmError where Slurm does not answer."""
    found: dict[str, Partition] = {}
    for line in _ask(["sinfo", "--noheader", "--format=%P|%a|%D|%c|%G|%l"]).splitlines():
        title, state, nodes, cpus, gres, limit = line.split("|")
        if state.strip() != "up":
            continue
        name = title.strip("* ")
        known = found.get(name)
        found[name] = Partition(
            name,
            title.strip().endswith("*"),
            int(nodes) + (known.nodes if known else 0),  # nodes of different kinds have a line each
            max(int(cpus.strip("+ ")), known.cpus if known else 0),
            max(_gpus(gres), known.gpus if known else 0),
            None if limit.strip() in UNLIMITED else minutes_of(limit),
        )
    return list(found.values())


def _gpus(gres: str) -> int:
    """The GPUs of generic resources such as gpu:a100:4(S:0-1)."""
    return sum(int(count) for count in re.findall(r"gpu:(?:[^:,()]+:)?(\d+)", gres))


def chosen_of(known: Sequence[Partition], wanted: str | None) -> Partition | None:
    """The partition called `wanted`, by default Slurm's own; None where `known` has none such."""
    return next((p for p in known if (p.is_default if wanted is None else p.name == wanted)), None)


def unknown(known: Sequence[Partition], wanted: str | None) -> str:
    """The message where `chosen_of` finds none."""
    problem = "there is no default partition" if wanted is None else f"got {wanted}"
    return f"{problem}, expected one of {', '.join(p.name for p in known) or 'none'}"


def faults(allocation: Allocation, known: Sequence[Partition]) -> Iterator[tuple[str, str]]:
    """Why no partition of `known` can give `allocation`: options, with the message."""
    wanted = allocation.partition
    chosen = chosen_of(known, wanted)
    if chosen is None:
        yield "--partition", unknown(known, wanted)
        return
    of = f"partition {chosen.name}"
    if allocation.nodes > chosen.nodes:
        yield "--nodes", f"got {allocation.nodes}, but {of} has {chosen.nodes}"
    if allocation.cpus > chosen.cpus:
        yield "--cpus-per-node", f"got {allocation.cpus}, but nodes of {of} have {chosen.cpus}"
    if allocation.gpus > chosen.gpus:
        yield "--gpus-per-node", f"got {allocation.gpus}, but nodes of {of} have {chosen.gpus}"
    if chosen.minutes is not None and allocation.minutes > chosen.minutes:
        limit = clock(chosen.minutes)
        yield "--time", f"got {clock(allocation.minutes)}, but the time limit of {of} is {limit}"


def refusal(script: str) -> str:
    """Why Slurm would refuse a job of the text `script`, such as an unknown account or QOS; empty where
    it would take it, be it to wait. Raises SlurmError where Slurm does not answer."""
    try:
        _ask(["sbatch", "--test-only"], script)
    except SlurmError as error:
        why = str(error).removeprefix("allocation failure: ")
        return "" if any(text in why for text in LATER) else why
    return ""


def submit(script: str) -> str:
    """Submit the file `script`; returns the number of the job. Raises SlurmError with Slurm's
    reason."""
    return _ask(["sbatch", "--parsable", script]).strip().partition(";")[0]


def absent(partition: str) -> list[str]:
    """A line for each node of `partition` that takes no jobs now: its state, and why. Raises
    SlurmError where Slurm does not answer."""
    words = ["sinfo", "--noheader", "--Node", f"--partition={partition}"]
    found = []
    for line in _ask([*words, "--format=%N|%T|%E"]).splitlines():
        name, state, reason = (part.strip() for part in line.split("|", 2))
        if state.startswith(ABSENT) or state.endswith("*"):  # a star: it does not respond
            found.append(f"{name} is {state}" + ("" if reason == "none" else f" ({reason})"))
    return found


def states() -> dict[str, str]:
    """The state of each job that Slurm knows, by its number, in words, such as PENDING (Resources) or
    RUNNING on w[1-2]; of an array those of its tasks. Raises SlurmError where Slurm does not answer."""
    found: dict[str, list[str]] = defaultdict(list)
    for line in _ask(["squeue", "--noheader", "--format=%F|%T|%r|%N"]).splitlines():
        job, state, reason, nodes = line.split("|")
        found[job].append(f"{state} on {nodes}" if nodes else f"{state} ({reason})")
    return {job: ", ".join(dict.fromkeys(parts)) for job, parts in found.items()}


class NoNodeFreeError(SlurmError):
    """No node was free in time."""


def run_on_a_node(
    command: Sequence[str], options: Sequence[str], job: str, wait: int, limit: int
) -> subprocess.CompletedProcess[str]:
    """What `command` says on one node, and the status with which it ends. `options`: of srun; `job`: a
    name that no other job has; `wait`: the seconds in which a node has to be free; `limit`: the
    minutes that it may take.

    Raises NoNodeFreeError, and SlurmError where Slurm cannot run it or it does not end."""
    asked = [f"--immediate={wait}", f"--time={limit}", f"--job-name={job}", "--nodes=1"]
    words = ["srun", "--ntasks=1", "--input=none", *asked, *options, *command]
    try:
        said = subprocess.run(
            words, stdin=subprocess.DEVNULL, capture_output=True, text=True,
            timeout=wait + 60 * limit + PATIENCE,
        )  # fmt: skip
    except OSError as error:
        raise SlurmError(f"srun: {error}") from None
    except subprocess.TimeoutExpired:
        with suppress(SlurmError):
            _ask(["scancel", f"--name={job}"])
        raise SlurmError(f"srun: nothing came back in {wait + 60 * limit} s") from None
    if said.returncode and any(text in said.stderr for text in BUSY):
        raise NoNodeFreeError(_last_line(said.stderr))
    launch = next((line for line in said.stderr.splitlines() if LAUNCH.search(line)), "")
    if said.returncode and (launch or "Unable to allocate resources" in said.stderr):
        raise SlurmError(_last_line(launch or said.stderr))
    return said


def _last_line(text: str) -> str:
    lines = text.strip().splitlines()
    return re.sub(r"^(\w+): error: ", r"\1: ", lines[-1]) if lines else ""


def _ask(command: list[str], text: str = "") -> str:
    try:
        said = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, input=text)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise SlurmError(f"{command[0]}: {error}") from None
    if said.returncode:
        last = _last_line(said.stderr) or f"{command[0]} ended with status {said.returncode}"
        raise SlurmError(last)
    return said.stdout
