"""What a Ray that is started on this machine needs of it, examined before it starts.

Ray's own messages about what is missing come minutes later, once per trial, and name something
else."""

import os
import resource
import shutil
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from orchestrator.fields.faults import ConfigError, Fault
from orchestrator.host import machine
from orchestrator.store.folder import Folder

HERE = "this machine"
# Ray listens on sockets below its folder, and Linux takes no more than 107 bytes for the path of
# one
SOCKET_BYTES = 107 - len("/session_2000-01-01_00-00-00_000000_4194304/sockets/plasma_store.1")
# Measured with one worker on two CPUs: 269 threads at most; with 200 Ray does not start, with 250
# it gets there after tries that fail. Each CPU more may mean a process more, of 30 threads.
THREADS = 200
THREADS_FOR_SURE = 300
THREADS_A_CPU = 40
# open files of one process: with 64 the raylet dies, 128 are enough for one worker
FILES = 100
FILES_FOR_SURE = 512
# of Ray's folder: session, logs, and objects that find no other room
DISK_BYTES = 1e6
DISK_BYTES_FOR_SURE = 1e9
SHARED = Path("/dev/shm")
SHARED_BYTES = 64e6  # with less Ray still works, with its objects in its folder
MEMORY_BYTES = 2e9  # of all processes of a run with one worker, none of which is large


@dataclass(frozen=True)
class RayFolder:
    """Where a Ray that is started here keeps its sockets and logs; `why` it is not where Ray would
    put them, if so."""

    path: Path
    why: str = ""


@dataclass
class Findings:
    """What keeps Ray from starting here, and, a line each, what may make trouble or is not as asked
    for."""

    faults: list[Fault] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def check() -> list[str]:
    """Raise ConfigError where Ray cannot work on this machine; returns the warnings."""
    found = look()
    if found.faults:
        raise ConfigError(found.faults)
    return found.warnings


def look() -> Findings:
    """Everything about this machine that matters to a Ray started on it; starts and writes
    nothing."""
    found = Findings()
    for examined in (_threads, _files, _disk, _shared_memory, _memory, _home):
        for fatal, message in examined():
            if fatal:
                found.faults.append(Fault(HERE, "", message))
            else:
                found.warnings.append(f"note: {message}")
    return found


def ray_folder() -> RayFolder | None:
    """Ray's own choice, RAY_TMPDIR/ray, TMPDIR/ray or /tmp/ray, where it will do; else the first
    folder that does; None where none does."""
    name, wanted = _wanted()
    problem = _unfit(wanted)
    if not problem:
        return RayFolder(wanted)
    own = f"kacflow-{os.getuid()}"  # and "ray" in it: Ray opens the last folder to everybody
    others = [
        Path("/tmp/ray"),
        *(Path(base) / own / "ray" for base in ("/tmp", "/var/tmp", SHARED)),
    ]
    other = next((other for other in others if other != wanted and not _unfit(other)), None)
    return (
        None if other is None else RayFolder(other, f"not in {wanted} (of {name}), which {problem}")
    )


def _wanted() -> tuple[str, Path]:
    """The variable that says where Ray's own files shall lie, and where that is."""
    name = next((name for name in ("RAY_TMPDIR", "TMPDIR") if os.environ.get(name)), "TMPDIR")
    return name, Path(os.path.abspath(os.environ.get(name) or "/tmp")) / "ray"


def in_words() -> list[str]:
    """What there is for this process, a line a fact, for people."""
    cpus = machine.cpu_allowance()
    memory = machine.memory_allowance()
    threads = machine.threads_left()
    folder, (_, files) = ray_folder(), resource.getrlimit(resource.RLIMIT_NOFILE)
    return [
        f"CPUs      {cpus.there} of {cpus.all}" + (f": {cpus.why}" if cpus.why else ""),
        f"memory    {memory.there / 1e9:.1f} of {memory.all / 1e9:.1f} GB"
        + (f": {memory.why}" if memory.why else ""),
        "threads   "
        + ("no limit" if threads is None else f"{max(0, threads.there)} more, by {threads.why}"),
        "files     "
        + ("no limit" if files == resource.RLIM_INFINITY else f"{files} open in a process"),
        f"Ray in    {folder.path if folder else 'no folder'}",
    ]


def _unfit(folder: Path) -> str:
    """Why Ray cannot have its sockets in `folder`; empty where it can."""
    length = len(os.fsencode(folder))
    if length > SOCKET_BYTES:
        return f"is too long for Ray's sockets, {length} bytes, at most {SOCKET_BYTES}"
    with suppress(OSError):  # others may write in /tmp: what bears our name there has to be ours
        if folder.parent.name.startswith("kacflow-") and not machine.ours(folder.parent):
            return "belongs to somebody else"
    problem = Folder(folder).problem().removeprefix("but ")
    return f"will not do: {problem}" if problem else ""


def _threads() -> Iterator[tuple[bool, str]]:
    left = machine.threads_left()
    wanted = THREADS_FOR_SURE + THREADS_A_CPU * (machine.cpus() - 1)
    if left is not None and left.there < wanted:
        few = left.there < THREADS
        what = f"{left.why} leaves room for {max(0, left.there)} more processes and threads"
        need = f"Ray needs {THREADS} to start" if few else f"Ray may need {wanted}"
        yield few, f"{what} of {left.all}, {need}: raise the limit, or end other processes"


def _files() -> Iterator[tuple[bool, str]]:
    _, most = resource.getrlimit(
        resource.RLIMIT_NOFILE
    )  # Ray raises the soft limit to the hard one
    if most != resource.RLIM_INFINITY and most < FILES_FOR_SURE:
        few = most < FILES
        need = f"Ray needs {FILES}" if few else f"Ray may need {FILES_FOR_SURE}"
        yield (
            few,
            f"ulimit -n allows {most} open files in a process, {need}: raise the hard limit (ulimit -Hn)",
        )


def _disk() -> Iterator[tuple[bool, str]]:
    folder = ray_folder()
    if folder is None:
        name, wanted = _wanted()
        what = f"no folder for Ray's own files: {wanted} {_unfit(wanted)}; nor will /tmp, /var/tmp or {SHARED} do"
        yield (
            True,
            f"{what}: set {name} to a folder of at most {SOCKET_BYTES - 4} bytes that you can write",
        )
        return
    if folder.why:
        yield False, f"Ray's own files lie in {folder.path}, {folder.why}"
    disk = shutil.disk_usage(Folder(folder.path).nearest())
    if disk.free < DISK_BYTES_FOR_SURE:
        shared = _shared()
        few = disk.free < (DISK_BYTES if shared is None or shared >= SHARED_BYTES else SHARED_BYTES)
        need = (
            "Ray cannot keep its own files there" if few else "Ray may need more for its own files"
        )
        yield (
            few,
            f"{folder.path} has {disk.free / 1e6:.1f} MB free, {need}: make room, or set RAY_TMPDIR elsewhere",
        )


def _shared() -> int | None:
    """How many bytes of shared memory can be had; None where the system has them elsewhere."""
    try:
        return shutil.disk_usage(SHARED).free if os.access(SHARED, os.W_OK | os.X_OK) else 0
    except OSError:
        return None if sys.platform != "linux" else 0


def _shared_memory() -> Iterator[tuple[bool, str]]:
    free = _shared()
    if free is not None and free < SHARED_BYTES:
        what = f"has {free / 1e6:.1f} MB free" if free else "is full, or cannot be written"
        yield (
            False,
            f"{SHARED} {what}: Ray keeps its objects on the disk, which is slower (docker run --shm-size=1g)",
        )


def _memory() -> Iterator[tuple[bool, str]]:
    memory = machine.memory_allowance()
    if memory.there < MEMORY_BYTES:
        what = f"{memory.there / 1e9:.2f} GB of memory" + (
            f", by {memory.why}" if memory.why else ""
        )
        yield False, f"there are {what}: Ray and one worker need about {MEMORY_BYTES / 1e9:g} GB"


def _home() -> Iterator[tuple[bool, str]]:
    home = os.path.expanduser("~")
    if home.startswith("~"):
        yield (
            True,
            "this user has no home folder, which Ray and MLflow look for: set HOME to a folder",
        )
    elif problem := Folder(home).problem().removeprefix("but "):
        yield (
            False,
            f"no home folder at {home}, {problem}: what libraries keep there is made anew each time",
        )
