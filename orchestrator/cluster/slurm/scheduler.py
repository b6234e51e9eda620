"""What Slurm's own commands answer: partitions, submitted jobs, and why a job waits."""

import re
import shutil
import subprocess
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from orchestrator.cluster.slurm.script import Allocation, clock, minutes_of

PATIENCE = 30.0  # seconds for an answer
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


def faults(allocation: Allocation, known: Sequence[Partition]) -> Iterator[tuple[str, str]]:
    """Why no partition of `known` can give `allocation`: options, with the message."""
    wanted = allocation.partition
    chosen = next(
        (p for p in known if (p.is_default if wanted is None else p.name == wanted)), None
    )
    if chosen is None:
        problem = "there is no default partition" if wanted is None else f"got {wanted}"
        names = ", ".join(p.name for p in known) or "none"
        yield "--partition", f"{problem}, expected one of {names}"
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


def submit(script: str) -> str:
    """Submit the file `script`; returns the number of the job. Raises SlurmError with Slurm's
    reason."""
    return _ask(["sbatch", "--parsable", script]).strip().partition(";")[0]


def states() -> dict[str, str]:
    """The state of each job that Slurm knows, by its number, in words, such as PENDING (Resources) or
    RUNNING on w[1-2]; of an array those of its tasks. Raises SlurmError where Slurm does not answer."""
    found: dict[str, list[str]] = defaultdict(list)
    for line in _ask(["squeue", "--noheader", "--format=%F|%T|%r|%N"]).splitlines():
        job, state, reason, nodes = line.split("|")
        found[job].append(f"{state} on {nodes}" if nodes else f"{state} ({reason})")
    return {job: ", ".join(dict.fromkeys(parts)) for job, parts in found.items()}


def _ask(command: list[str]) -> str:
    try:
        said = subprocess.run(
            command, capture_output=True, text=True, timeout=PATIENCE, stdin=subprocess.DEVNULL
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise SlurmError(f"{command[0]}: {error}") from None
    if said.returncode:
        lines = said.stderr.strip().splitlines() or [f"ended with status {said.returncode}"]
        raise SlurmError(re.sub(rf"^{command[0]}: error: ", f"{command[0]}: ", lines[-1]))
    return said.stdout
