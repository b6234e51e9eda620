"""How many workers there are is no part of a result, nor that it changes between an interruption
and its resume.

Floating-point sums are, and so are the chains of rounding behind them: the weights agree to a
tolerance."""

import signal
import subprocess
import time
from pathlib import Path

import pytest
import torch
from commands import PATIENCE, TINY, command, own_environment, run, settings
from in_process import train

from kaccore.checkpoint import read_tensors
from orchestrator.settings import loading
from orchestrator.sweeps import opening

pytestmark = [pytest.mark.system, pytest.mark.usefixtures("shared_ray")]

STEPS = 600  # two runs in turn make a few dozen until they are told to stop, and some more until they have
SETTINGS = {"teacher__steps": STEPS, "checkpoint__steps": 20}


def weights(root: Path) -> list[dict[str, torch.Tensor]]:
    """The weights of a teacher and its two students in the store at `root`."""
    return [read_tensors(path) for path in sorted((root / "stages").glob("*/model.safetensors"))]


def trained_alone(file: Path, root: Path) -> list[dict[str, torch.Tensor]]:
    """The weights that this process comes to, which is never interrupted."""
    asked = loading.load(file, settings(**SETTINGS)[1::2])
    (trial,) = opening.make_plan(asked, str(file), "student").trials
    train(trial.chain, trial.config.data, root)
    return weights(root)


def assert_alike(
    found: list[dict[str, torch.Tensor]], expected: list[dict[str, torch.Tensor]]
) -> None:
    assert len(found) == len(expected) == 3
    for mine, theirs in zip(found, expected, strict=True):
        for name, value in theirs.items():
            torch.testing.assert_close(mine[name], value, rtol=1e-2, atol=1e-3)


def interrupted(cwd: Path, workers: int) -> None:
    """Train with so many workers, from the newest checkpoint on, until there is another one."""
    before = checkpoints(cwd)
    arguments = settings(**SETTINGS, cluster__workers=workers)
    driver = subprocess.Popen(
        command("distill", "x.yaml", *arguments), cwd=cwd, env=own_environment(), text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    until = time.monotonic() + PATIENCE
    while max(checkpoints(cwd), default="") <= max(before, default=""):
        assert driver.poll() is None and time.monotonic() < until, driver.communicate(timeout=5)
        time.sleep(0.1)
    driver.send_signal(signal.SIGTERM)
    said, _ = driver.communicate(timeout=PATIENCE)
    assert driver.returncode == 130, said
    assert not list((cwd / "runs").glob("stages/*"))


def checkpoints(cwd: Path) -> list[str]:
    return [path.name for path in cwd.glob("runs/work/*/checkpoints/step-*.json")]


def test_other_workers_go_on_to_the_weights_of_one_that_was_never_interrupted(tmp_path):
    """Over a minute beside others: one worker begins, two go on, and one comes to the end, which
    are three groups of workers."""
    (tmp_path / "x.yaml").write_text(TINY)
    for workers in (1, 2):
        interrupted(tmp_path, workers)
    said = run(tmp_path, "distill", "x.yaml", *settings(**SETTINGS, cluster__workers=1))
    assert said.returncode == 0, said.stdout + said.stderr
    expected = trained_alone(tmp_path / "x.yaml", tmp_path / "alone")
    assert_alike(weights(tmp_path / "runs"), expected)
