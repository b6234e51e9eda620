"""How many workers there are is no part of a result, nor that it changes between an interruption
and its resume.

Floating-point sums are, and so are the chains of rounding behind them: the weights agree to a
tolerance."""

import signal
import subprocess
from pathlib import Path

import pytest
import torch
from commands import PATIENCE, TINY, command, own_environment, run, settings, wait_for

from kaccore.checkpoint import read_tensors

pytestmark = [pytest.mark.system, pytest.mark.usefixtures("shared_ray")]

STEPS = 600  # a run has made a few dozen when it is told to stop, and some more until it has
SETTINGS = {"teacher__steps": STEPS, "checkpoint__steps": 20}


def distilled(cwd: Path, workers: int) -> list[dict[str, torch.Tensor]]:
    """The weights of a teacher and its two students, trained by so many workers, or by them to the
    end."""
    (cwd / "x.yaml").write_text(TINY)
    said = run(cwd, "distill", "x.yaml", *settings(**SETTINGS, cluster__workers=workers))
    assert said.returncode == 0, said.stdout + said.stderr
    return [
        read_tensors(path) for path in sorted((cwd / "runs" / "stages").glob("*/model.safetensors"))
    ]


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, torch.Tensor]]:
    return distilled(tmp_path_factory.mktemp("alone"), 1)


def assert_alike(
    found: list[dict[str, torch.Tensor]], expected: list[dict[str, torch.Tensor]]
) -> None:
    assert len(found) == len(expected) == 3
    for mine, theirs in zip(found, expected, strict=True):
        for name, value in theirs.items():
            torch.testing.assert_close(mine[name], value, rtol=1e-2, atol=1e-3)


@pytest.mark.parametrize(("first", "then"), [(2, 1), (1, 2)])
def test_other_workers_go_on_to_the_weights_of_one_that_was_never_interrupted(
    alone, tmp_path, first, then
):
    """Over a minute beside others: three trainings, of which two start two workers."""
    (tmp_path / "x.yaml").write_text(TINY)
    arguments = settings(**SETTINGS, cluster__workers=first)
    driver = subprocess.Popen(
        command("distill", "x.yaml", *arguments), cwd=tmp_path, env=own_environment(), text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    wait_for("runs/work/*/checkpoints/step-*.json", tmp_path, driver)
    driver.send_signal(signal.SIGTERM)
    said, _ = driver.communicate(timeout=PATIENCE)
    assert driver.returncode == 130, said
    assert not list((tmp_path / "runs").glob("stages/*"))
    assert_alike(distilled(tmp_path, then), alone)
