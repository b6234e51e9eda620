"""Checks whether this machine can run a local Ray cluster, before one is started.

Ray's own messages come minutes later, once per trial, and do not name the cause."""

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

THIS_MACHINE = "this machine"
# Ray's sockets lie below its folder; Linux limits the path of a socket to 107 bytes
SOCKET_BYTES = 107 - len("/session_2000-01-01_00-00-00_000000_4194304/sockets/plasma_store.1")
# Measured with one worker on two CPUs: at most 269 threads; with a limit of 200 Ray does not start,
# with 250 it starts after failed attempts. Each further CPU may add a process of 30 threads.
MIN_THREADS = 200
SAFE_THREADS = 300
THREADS_PER_CPU = 40
# open files of one process: with 64 the raylet dies, 128 are enough for one worker
MIN_FILES = 100
SAFE_FILES = 512
# free bytes on the disk of Ray's folder: session, logs, and spilled objects
MIN_DISK_BYTES = 1e6
SAFE_DISK_BYTES = 1e9
SHARED_MEMORY = Path("/dev/shm")
SAFE_SHARED_BYTES = 64e6  # with less, Ray keeps its objects in its folder
SAFE_MEMORY_BYTES = 2e9  # all processes of a run with one worker and a small network

Finding = tuple[bool, str]  # whether it prevents a start, and the message


@dataclass(frozen=True)
class RayFolder:
    """The folder of a local Ray's sockets and logs; `why` it is not the one of Ray's own choice, or
    empty."""

    path: Path
    why: str = ""


@dataclass
class Findings:
    """What prevents a start of Ray on this machine, and warnings, one a line."""

    faults: list[Fault] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def check() -> list[str]:
    """Raise ConfigError where Ray cannot work on this machine; returns the warnings."""
    findings = inspect_machine()
    if findings.faults:
        raise ConfigError(findings.faults)
    return findings.warnings


def inspect_machine() -> Findings:
    """All faults and warnings of this machine for a local Ray; starts and writes nothing."""
    findings = Findings()
    for inspect in (_threads, _files, _disk, _shared_memory, _memory, _home):
        for fatal, message in inspect():
            if fatal:
                findings.faults.append(Fault(THIS_MACHINE, "", message))
            else:
                findings.warnings.append(f"note: {message}")
    return findings


def ray_folder() -> RayFolder | None:
    """Ray's default, RAY_TMPDIR/ray, TMPDIR/ray or /tmp/ray, where it is usable; else the first
    usable alternative; None where there is none."""
    variable, default = _default_folder()
    problem = folder_problem(default)
    if not problem:
        return RayFolder(default)
    # with a subfolder "ray", because Ray makes the last folder writable for everybody
    own = f"kacflow-{os.getuid()}"
    alternatives = [Path("/tmp/ray")]
    alternatives += [Path(base) / own / "ray" for base in ("/tmp", "/var/tmp", SHARED_MEMORY)]
    for folder in alternatives:
        if folder != default and not folder_problem(folder):
            return RayFolder(folder, f"not in {default} (of {variable}), which {problem}")
    return None


def _default_folder() -> tuple[str, Path]:
    """The environment variable that sets Ray's folder, and the folder that it means."""
    set_ones = (name for name in ("RAY_TMPDIR", "TMPDIR") if os.environ.get(name))
    variable = next(set_ones, "TMPDIR")
    return variable, Path(os.path.abspath(os.environ.get(variable) or "/tmp")) / "ray"


def limits_text() -> list[str]:
    """What this process may use of the machine, one limit a line."""
    cpus = machine.cpu_allowance()
    memory = machine.memory_allowance()
    threads = machine.threads_left()
    _, files = resource.getrlimit(resource.RLIMIT_NOFILE)
    folder = ray_folder()
    threads_text = "no limit"
    if threads is not None:
        threads_text = f"{max(0, threads.available)} more, by {threads.why}"
    files_text = "no limit"
    if files != resource.RLIM_INFINITY:
        files_text = f"{files} open in a process"
    return [
        f"CPUs      {cpus.available} of {cpus.total}{_reason(cpus)}",
        f"memory    {memory.available / 1e9:.1f} of {memory.total / 1e9:.1f} GB{_reason(memory)}",
        f"threads   {threads_text}",
        f"files     {files_text}",
        f"Ray in    {folder.path if folder else 'no folder'}",
    ]


def _reason(allowance: machine.Allowance) -> str:
    return f": {allowance.why}" if allowance.why else ""


def folder_problem(folder: Path) -> str:
    """Why Ray cannot use `folder`; empty where it can."""
    length = len(os.fsencode(folder))
    if length > SOCKET_BYTES:
        return f"is too long for Ray's sockets, {length} bytes, at most {SOCKET_BYTES}"
    with suppress(OSError):  # all users can write in /tmp: a folder of our name may be another's
        if folder.parent.name.startswith("kacflow-") and not machine.owned_by_user(folder.parent):
            return "belongs to another user"
    problem = Folder(folder).problem().removeprefix("but ")
    return f"cannot be used: {problem}" if problem else ""


def _threads() -> Iterator[Finding]:
    left = machine.threads_left()
    safe = SAFE_THREADS + THREADS_PER_CPU * (machine.cpus() - 1)
    if left is None or left.available >= safe:
        return
    fatal = left.available < MIN_THREADS
    got = f"{left.why} leaves room for {max(0, left.available)} more processes and threads"
    need = f"Ray needs {MIN_THREADS} to start" if fatal else f"Ray may need {safe}"
    yield fatal, f"{got} of {left.total}, {need}: raise the limit, or end other processes"


def _files() -> Iterator[Finding]:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)  # Ray raises the soft limit to the hard
    if hard == resource.RLIM_INFINITY or hard >= SAFE_FILES:
        return
    fatal = hard < MIN_FILES
    got = f"ulimit -n allows {hard} open files in a process"
    need = f"Ray needs {MIN_FILES}" if fatal else f"Ray may need {SAFE_FILES}"
    yield fatal, f"{got}, {need}: raise the hard limit (ulimit -Hn)"


def _disk() -> Iterator[Finding]:
    folder = ray_folder()
    if folder is None:
        variable, default = _default_folder()
        what = f"no folder for Ray's own files: {default} {folder_problem(default)}"
        others = f"/tmp, /var/tmp and {SHARED_MEMORY} cannot be used either"
        remedy = (
            f"set {variable} to a folder of at most {SOCKET_BYTES - 4} bytes that you can write"
        )
        yield True, f"{what}; {others}: {remedy}"
        return
    if folder.why:
        yield False, f"Ray's own files are in {folder.path}, {folder.why}"
    free = shutil.disk_usage(Folder(folder.path).nearest()).free
    if free >= SAFE_DISK_BYTES:
        return
    shared = _shared_bytes()
    objects_fit_elsewhere = shared is None or shared >= SAFE_SHARED_BYTES
    fatal = free < (MIN_DISK_BYTES if objects_fit_elsewhere else SAFE_SHARED_BYTES)
    need = "Ray may need more for its own files"
    if fatal:
        need = "Ray cannot keep its own files there"
    got = f"{folder.path} has {free / 1e6:.1f} MB free"
    yield fatal, f"{got}, {need}: make room, or set RAY_TMPDIR elsewhere"


def _shared_bytes() -> int | None:
    """The free bytes of shared memory; None where the system does not have it in /dev/shm."""
    try:
        writable = os.access(SHARED_MEMORY, os.W_OK | os.X_OK)
        return shutil.disk_usage(SHARED_MEMORY).free if writable else 0
    except OSError:
        return None if sys.platform != "linux" else 0


def objects_folder() -> Path | None:
    """A folder for Ray's objects where this process cannot write shared memory, in which Ray would
    put them and abort; None where Ray can choose."""
    folder = ray_folder()
    if folder is None or not SHARED_MEMORY.is_dir() or os.access(SHARED_MEMORY, os.W_OK | os.X_OK):
        return None
    return Folder(folder.path).nearest()


def _shared_memory() -> Iterator[Finding]:
    free = _shared_bytes()
    if free is None or free >= SAFE_SHARED_BYTES:
        return
    got = f"has {free / 1e6:.1f} MB free" if free else "is full, or cannot be written"
    effect = "Ray keeps its objects on the disk, which is slower (docker run --shm-size=1g)"
    yield False, f"{SHARED_MEMORY} {got}: {effect}"


def _memory() -> Iterator[Finding]:
    memory = machine.memory_allowance()
    if memory.available >= SAFE_MEMORY_BYTES:
        return
    got = f"there are {memory.available / 1e9:.2f} GB of memory"
    if memory.why:
        got += f", by {memory.why}"
    yield False, f"{got}: Ray and one worker need about {SAFE_MEMORY_BYTES / 1e9:g} GB"


def _home() -> Iterator[Finding]:
    home = os.path.expanduser("~")
    if home.startswith("~"):
        yield True, "this user has no home folder, which Ray and MLflow need: set HOME to a folder"
    elif problem := Folder(home).problem().removeprefix("but "):
        effect = "libraries cannot keep their caches there, and make them again each time"
        yield False, f"no home folder at {home}, {problem}: {effect}"
