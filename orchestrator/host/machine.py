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
UNLIMITED = 2**62  # version 1 writes a number a little below 2^63 for no limit


@dataclass(frozen=True)
class Allowance:
    """How much of a resource is `available` to this process, the machine's `total`, and `why` less
    is available; empty where all is."""

    available: int
    total: int
    why: str = ""


def cpus(root: Path = ROOT) -> int:
    """How many CPUs this process may use, >= 1: those of its affinity, at most the quota of its
    control groups, rounded down. All code of this project counts CPUs with this function."""
    return cpu_allowance(root).available


def cpu_allowance(root: Path = ROOT) -> Allowance:
    """`cpus`, the CPUs of the machine, and the reason for the difference."""
    usable = all_cpus = os.cpu_count() or 1
    why = ""
    if hasattr(os, "sched_getaffinity"):
        bound = len(os.sched_getaffinity(0))
        if bound < usable:
            usable, why = bound, "the affinity of this process (taskset, cpuset, Slurm)"
    quotas = [_cpu_quota(folder) for folder in _groups("cpu", root)]
    quota = min((quota for quota in quotas if quota is not None), default=None)
    if quota is not None and quota < usable:
        usable = max(1, int(quota))
        why = f"the control group's quota of {quota:g} CPUs"
    return Allowance(usable, all_cpus, why)


def memory(root: Path = ROOT) -> int:
    """How many bytes of memory this process and its children may use together: the machine's, or
    the limit of the control groups where that is less."""
    return memory_allowance(root).available


def memory_allowance(root: Path = ROOT) -> Allowance:
    """`memory`, the memory of the machine, and the reason for the difference."""
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    limits = []
    for folder in _groups("memory", root):
        # above memory.high the kernel slows processes down until they hardly run
        names = ("memory.max", "memory.high", "memory.limit_in_bytes")
        limits += [_number(folder / name) for name in names]
    limit = min((limit for limit in limits if limit is not None), default=None)
    if limit is not None and limit < total:
        return Allowance(limit, total, "the control group's limit")
    return Allowance(total, total)


def threads_left(root: Path = ROOT) -> Allowance | None:
    """How many more threads this user may start; None where no limit is known. `available` may be
    negative. Linux counts each thread of each process as a process."""
    allowances = []
    soft, _ = resource.getrlimit(resource.RLIMIT_NPROC)
    if soft != resource.RLIM_INFINITY and os.getuid():  # root is exempt
        allowances.append(Allowance(soft - _threads_of(os.getuid()), soft, "ulimit -u"))
    for folder in _groups("pids", root):
        limit, used = _number(folder / "pids.max"), _number(folder / "pids.current")
        if limit is not None and used is not None:
            allowances.append(Allowance(limit - used, limit, "pids.max of the control group"))
    return min(allowances, key=lambda allowance: allowance.available, default=None)


def temporary_folder() -> Path:
    """A private folder of this user below the system's temporary folder, created where missing;
    raises PermissionError where another user owns it."""
    folder = Path(gettempdir()) / f"kacflow-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    if not owned_by_user(folder):
        raise PermissionError(
            errno.EACCES, "belongs to another user: remove it, or set TMPDIR", str(folder)
        )
    return folder


def owned_by_user(folder: Path) -> bool:
    """Whether `folder` is a folder, no link, of this user: in /tmp another user may have created
    it."""
    status = folder.lstat()
    return stat.S_ISDIR(status.st_mode) and status.st_uid == os.getuid()


def limit_threads() -> None:
    """Limit torch's threads in this process to `cpus`; torch itself heeds the affinity, but no
    quota."""
    import torch

    torch.set_num_threads(min(torch.get_num_threads(), cpus()))


def _threads_of(user: int) -> int:
    import psutil

    count = 0
    for process in psutil.process_iter():
        try:
            if process.uids().real == user:
                count += process.num_threads()
        except psutil.Error:  # the process has ended
            continue
    return count


def _cpu_quota(folder: Path) -> float | None:
    """The CPU time that the processes of a control group may use, in CPUs; None where it is not
    limited."""
    if (text := _text(folder / "cpu.max")) is not None:
        maximum, _, microseconds = text.partition(" ")
        return None if maximum == "max" else int(maximum) / int(microseconds or 100_000)
    quota = _number(folder / "cpu.cfs_quota_us")
    period = _number(folder / "cpu.cfs_period_us")
    if quota is None or not period:
        return None
    return quota / period


def _groups(controller: str, root: Path) -> Iterator[Path]:
    """The folders of this process's control groups with `controller`, and of their parents, whose
    limits hold as well."""
    hierarchies = list(_hierarchies(root))
    for line in (_text(root / "proc/self/cgroup") or "").splitlines():
        # names of controllers, empty in version 2, which has all in one hierarchy
        _, names, group = line.split(":", 2)
        if names and controller not in names.split(","):
            continue
        for kind, options, mount_point, top in hierarchies:
            if kind != ("cgroup" if names else "cgroup2"):
                continue
            if names and controller not in options.split(","):
                continue
            # in a container the parents are not mounted, but may be part of the group's path
            below = Path()
            if Path(group).is_relative_to(top):
                below = Path(group).relative_to(top)
            for part in (below, *below.parents):
                yield root / mount_point.lstrip("/") / part


def _hierarchies(root: Path) -> Iterator[tuple[str, str, str, str]]:
    """Type, options and mount point of each mounted hierarchy of control groups, and the group at
    its top."""
    for line in (_text(root / "proc/self/mountinfo") or "").splitlines():
        mount, _, filesystem = line.partition(" - ")
        if filesystem.startswith("cgroup"):
            fields, kinds = mount.split(), filesystem.split()
            yield kinds[0], kinds[-1], fields[4], fields[3]


def _number(path: Path) -> int | None:
    """The number in a file; None where there is none, or it means no limit."""
    text = _text(path)
    if not text or not text.lstrip("-").isdigit():
        return None
    number = int(text)
    return number if 0 <= number < UNLIMITED else None


def _text(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8").strip()
    except OSError:
        return None
