"""The real commands in processes of their own, and small experiments for them."""

import os
import subprocess
import sys
import time
from pathlib import Path

PATIENCE = 580.0  # a busy machine starts Ray slowly; nothing is judged by how long it takes
REPOSITORY = Path(__file__).parents[2]

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
    """This process's environment, without the way to a cluster that may be running: tests start their own."""
    return {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}


def run(cwd: Path, name: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """`python -m orchestrator.<name>` in `cwd`, to its end."""
    return subprocess.run(
        command(name, *arguments), cwd=cwd, env=own_environment(), capture_output=True, text=True,
        timeout=PATIENCE,
    )  # fmt: skip


def wait_for(pattern: str, folder: Path, driver: subprocess.Popen[str]) -> Path:
    """The first file below `folder` that matches, once it is there."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline and driver.poll() is None:
        if found := next(folder.glob(pattern), None):
            return found
        time.sleep(0.2)
    raise AssertionError(f"no {pattern}: {driver.communicate(timeout=5)}")


def settings(**values: object) -> list[str]:
    """`teacher__steps=3` as `--set teacher.steps=3`."""
    return [part for key, value in values.items() for part in ("--set", f"{key.replace('__', '.')}={value}")]


def manifests(storage: Path) -> dict[str, bytes]:
    """The manifests of all finished stages by key."""
    return {p.parent.name: p.read_bytes() for p in (storage / "stages").glob("*/manifest.json")}


def everything_below(folder: Path) -> dict[str, bytes | None]:
    """Every file and folder below `folder`, with the files' contents."""
    return {str(p.relative_to(folder)): p.read_bytes() if p.is_file() else None for p in folder.rglob("*")}
