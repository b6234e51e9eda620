"""The real commands in processes of their own, and small experiments for them."""

import contextlib
import io
import os
import runpy
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
import warnings
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import psutil
from stages import kinds_restored

PATIENCE = 1100.0  # a busy machine starts Ray slowly; nothing is judged by how long it takes
REPOSITORY = Path(__file__).parents[2]
SHARED: dict[str, str] = {}  # the way to a Ray that is running, while tests that share it run

TINY = """\
name: tiny
data: {name: digits}
path: {kind: kac}
model: {channels: 8, multipliers: [1], patch: 4}
teacher: {steps: 20, batch_size: 16}
distill: {intervals: [4, 2], teacher_steps: 8, steps: 10, batch_size: 16}
sampling: {model: student, steps: 4}
evaluation: {samples: 40, metrics: [fid]}
checkpoint: {steps: 10}
"""


def command(name: str, *arguments: object) -> list[str]:
    return [sys.executable, "-m", f"orchestrator.{name}", *map(str, arguments)]


def own_environment() -> dict[str, str]:
    """This process's environment, without the way to a cluster that may be running: tests start
    their own, or share one."""
    own = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    return own | SHARED


def run(cwd: Path, name: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """`python -m orchestrator.<name>` in `cwd`, to its end."""
    return subprocess.run(
        command(name, *arguments), cwd=cwd, env=own_environment(), capture_output=True, text=True,
        timeout=PATIENCE,
    )  # fmt: skip


def run_here(cwd: Path, name: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """The same within this process, for a command that starts neither Ray nor a server: a process
    of its own would import for seconds."""
    words = [name, *map(str, arguments)]
    out, err = io.StringIO(), io.StringIO()
    alone = {name: value for name, value in own_environment().items() if name not in SHARED}
    with (
        contextlib.chdir(cwd),
        mock.patch.object(sys, "argv", words),
        mock.patch.dict(os.environ, alone, clear=True),  # what it sets is its own
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
        warnings.catch_warnings(action="ignore"),  # others may have imported its module before
        kinds_restored(),
    ):
        try:
            runpy.run_module(f"orchestrator.{name}", run_name="__main__", alter_sys=True)
        except SystemExit as e:
            status = int(e.code or 0)
            return subprocess.CompletedProcess(words, status, out.getvalue(), err.getvalue())
    raise AssertionError(f"{name} ended without a status")


def wait_for(pattern: str, folder: Path, driver: subprocess.Popen[str]) -> Path:
    """The first file below `folder` that matches, once it is there."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline and driver.poll() is None:
        if found := next(folder.glob(pattern), None):
            return found
        time.sleep(0.2)
    raise AssertionError(f"no {pattern}: {driver.communicate(timeout=5)}")


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


def healthy(uri: str) -> bool:
    try:
        with urllib.request.urlopen(f"{uri}/health", timeout=5) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


@contextlib.contextmanager
def mlflow_server(folder: Path, port: int, database: Path | None = None) -> Iterator[str]:
    """A real tracking server on `database`, by default a new one, which like its artifacts lies in
    `folder`: its address. Killed with -9 at the end."""
    uri = f"http://127.0.0.1:{port}"
    arguments = ["--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    arguments += ["--backend-store-uri", f"sqlite:///{database or folder / 'server.db'}"]
    arguments += ["--artifacts-destination", str(folder / "artifacts")]
    environment = {
        **os.environ,
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "MLFLOW_DISABLE_TELEMETRY": "true",
    }
    with (folder / "server.log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "mlflow", "server", *arguments],
            cwd=folder, env=environment, stdout=log, stderr=subprocess.STDOUT,
        )  # fmt: skip
        try:
            until = time.monotonic() + PATIENCE
            while not healthy(uri):
                assert process.poll() is None and time.monotonic() < until, (
                    folder / "server.log"
                ).read_text()
                time.sleep(0.2)
            yield uri
        finally:
            kill_all(process)


def below(process: subprocess.Popen[str] | subprocess.Popen[bytes]) -> list[psutil.Process]:
    try:
        return psutil.Process(process.pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def kill_all(process: subprocess.Popen[str] | subprocess.Popen[bytes]) -> None:
    """A process and everything under it with -9, as when a machine loses its power."""
    family = below(process)
    process.kill()
    for each in family:
        with contextlib.suppress(psutil.NoSuchProcess):
            each.kill()
    process.communicate(timeout=60)
    psutil.wait_procs(family, timeout=60)


def settings(**values: object) -> list[str]:
    """`teacher__steps=3` as `--set teacher.steps=3`."""
    return [
        part
        for key, value in values.items()
        for part in ("--set", f"{key.replace('__', '.')}={value}")
    ]


def manifests(storage: Path) -> dict[str, bytes]:
    """The manifests of all finished stages by key."""
    return {p.parent.name: p.read_bytes() for p in (storage / "stages").glob("*/manifest.json")}


def everything_below(folder: Path) -> dict[str, bytes | None]:
    """Every file and folder below `folder`, with the files' contents."""
    return {
        str(p.relative_to(folder)): p.read_bytes() if p.is_file() else None
        for p in folder.rglob("*")
    }
