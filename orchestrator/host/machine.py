"""What this process may use of its machine: CPUs, memory, processes.

A container, a Slurm job or `taskset` leaves a process less than the machine has. Affinity says
which CPUs, the control groups (of version 1 or 2) how much of their time, how much memory and how
many processes."""

import errno
import os
import resource
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import gettempdir

ROOT = Path("/")  # below which /proc and /sys lie
UNLIMITED = 2**62  # what version 1 has in the place of no limit is a little less than 2^63


@dataclass(frozen=True)
class Allowance:
    """How much of something there is for this process, and why it is less than `all` of the
    machine's, if it is."""

    there: int
    all: int
    why: str = ""


def cpus(root: Path = ROOT) -> int:
    """How many CPUs this process may use, >= 1: those of its affinity, at most the quota of its
    control groups, rounded down. Every count of CPUs in this project is this one."""
    return cpu_allowance(root).there


def cpu_allowance(root: Path = ROOT) -> Allowance:
    """`cpus`, with those of the machine and what makes the difference."""
    there = every = os.cpu_count() or 1
    why = ""
    if hasattr(os, "sched_getaffinity") and (bound := len(os.sched_getaffinity(0))) < there:
        there, why = bound, "the affinity of this process (taskset, cpuset, Slurm)"
    quotas = [quota for folder in _groups("cpu", root) if (quota := _cpu_quota(folder)) is not None]
    if quotas and min(quotas) < there:
        there = max(1, int(min(quotas)))
        why = f"the control group's quota of {min(quotas):g} CPUs"
    return Allowance(there, every, why)


def memory(root: Path = ROOT) -> int:
    """How many bytes of memory this process and its children may hold together: the machine's, or
    the limit of the control groups where that is less."""
    return memory_allowance(root).there


def memory_allowance(root: Path = ROOT) -> Allowance:
    """`memory`, with that of the machine and what makes the difference."""
    there = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    names = ("memory.max", "memory.limit_in_bytes")
    limits = [
        limit
        for f in _groups("memory", root)
        for name in names
        if (limit := _number(f / name)) is not None
    ]
    if limits and min(limits) < there:
        return Allowance(min(limits), there, "the control group's limit")
    return Allowance(there, there)


def threads_left(root: Path = ROOT) -> Allowance | None:
    """How many threads this user may start beside those that run: `there` may be less than 0; None:
    no limit is known. Linux counts each thread of each process as a process."""
    found = []
    soft, _ = resource.getrlimit(resource.RLIMIT_NPROC)
    if soft != resource.RLIM_INFINITY and os.getuid():  # root is exempt
        found.append(Allowance(soft - _threads_of(os.getuid()), soft, "ulimit -u"))
    for folder in _groups("pids", root):
        limit, used = _number(folder / "pids.max"), _number(folder / "pids.current")
        if limit is not None and used is not None:
            found.append(Allowance(limit - used, limit, "pids.max of the control group"))
    return min(found, key=lambda allowed: allowed.there, default=None)


def temporary_folder() -> Path:
    """A folder of this user alone below the system's for temporary files, made where missing;
    raises PermissionError where somebody else has taken its name."""
    folder = Path(gettempdir()) / f"kacflow-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    if not ours(folder):
        raise PermissionError(
            errno.EACCES, "belongs to another user: remove it, or set TMPDIR", str(folder)
        )
    return folder


def ours(folder: Path) -> bool:
    """Whether what lies at `folder` is a folder of this user: in /tmp anybody may have put
    something there."""
    found = folder.lstat()
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid()


def limit_threads() -> None:
    """Have torch compute in this process with no more threads than `cpus`; it knows the affinity
    and no quota."""
    import torch

    torch.set_num_threads(min(torch.get_num_threads(), cpus()))


def _threads_of(user: int) -> int:
    import psutil

    count = 0
    for process in psutil.process_iter():
        try:
            if process.uids().real == user:
                count += process.num_threads()
        except psutil.Error:  # it has ended meanwhile
            continue
    return count


def _cpu_quota(folder: Path) -> float | None:
    """How many CPUs' time the processes of a control group may take; None where that is not
    limited."""
    if (text := _text(folder / "cpu.max")) is not None:
        quota, _, period = text.partition(" ")
        return None if quota == "max" else int(quota) / int(period or 100_000)
    allowed = _number(folder / "cpu.cfs_quota_us")
    each = _number(folder / "cpu.cfs_period_us")
    return None if allowed is None or not each else allowed / each


def _groups(controller: str, root: Path) -> Iterator[Path]:
    """The folders of this process's control groups that have a `controller`, each with those above
    it, whose limits hold as well."""
    mounts = list(_mounts(root))
    for line in (_text(root / "proc/self/cgroup") or "").splitlines():
        _, names, path = line.split(
            ":", 2
        )  # version 2 names no controllers: all are in one hierarchy
        if names and controller not in names.split(","):
            continue
        for kind, options, mounted, inner in mounts:
            if kind == ("cgroup" if names else "cgroup2") and (
                not names or controller in options.split(",")
            ):
                # within a container what is above is not mounted, and may be in the path all the
                # same
                below = (
                    Path(path).relative_to(inner) if Path(path).is_relative_to(inner) else Path()
                )
                yield from (root / mounted.lstrip("/") / part for part in (below, *below.parents))


def _mounts(root: Path) -> Iterator[tuple[str, str, str, str]]:
    """Type, options and place of each mounted hierarchy of control groups, and the group that is
    its top there."""
    for line in (_text(root / "proc/self/mountinfo") or "").splitlines():
        place, _, kind = line.partition(" - ")
        if kind.startswith("cgroup"):
            yield kind.split()[0], kind.split()[-1], place.split()[4], place.split()[3]


def _number(path: Path) -> int | None:
    """The number in a file, None where it has none, or says that there is no limit."""
    text = _text(path)
    number = int(text) if text and text.lstrip("-").isdigit() else None
    return None if number is None or not 0 <= number < UNLIMITED else number


def _text(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8").strip()
    except OSError:
        return None
