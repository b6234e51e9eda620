"""Processes killed with -9 at the worst moments, two sweeps at once, a full disk; and then the same command again.

After each: the results are those of a run that nothing disturbed, MLflow has every run once and none of them RUNNING,
no process is left, and nothing that a rerun would have to remove by hand.
"""

import contextlib
import csv
import os
import random
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
from commands import PATIENCE, TINY, command, everything_below, own_environment, wait_for
from mlflow import MlflowClient

SWEEP = """\
sweep:
  max_concurrent_trials: 8
  space:
    sampling.model: {grid: [teacher, student]}
    sampling.steps: {grid: [2, 4]}
"""
EXPERIMENT = TINY.replace("steps: 20,", "steps: 2000,").replace("{steps: 10}", "{steps: 50}") + SWEEP
KILLS = 10


@dataclass(frozen=True)
class Undisturbed:
    """A run to compare with, and how long it took."""

    storage: Path
    seconds: float


def start(cwd: Path) -> subprocess.Popen[str]:
    if not (cwd / "x.yaml").exists():
        (cwd / "x.yaml").write_text(EXPERIMENT)
    return subprocess.Popen(
        command("sweep", "x.yaml"), cwd=cwd, env=own_environment(), text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip


def finish(process: subprocess.Popen[str]) -> str:
    said, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, said
    assert "Traceback" not in said
    return said


def below(process: subprocess.Popen[str]) -> list[psutil.Process]:
    try:
        return psutil.Process(process.pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def kill_all(process: subprocess.Popen[str]) -> None:
    """The driver and everything under it, as when a machine loses its power."""
    family = below(process)
    process.kill()
    for each in family:
        with contextlib.suppress(psutil.NoSuchProcess):
            each.kill()
    process.communicate(timeout=60)
    psutil.wait_procs(family, timeout=60)


def find(process: subprocess.Popen[str], name: str) -> psutil.Process:
    """The process below `process` that calls itself `name`, once it is there."""
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until and process.poll() is None:
        for each in below(process):
            try:
                if any(name in part for part in each.cmdline()[:1]):
                    return each
            except psutil.Error:
                continue
        time.sleep(0.1)
    raise AssertionError(f"no {name}: {process.communicate(timeout=5)}")


def rows(storage: Path) -> list[dict[str, str]]:
    (table,) = (storage / "sweeps" / "tiny").glob("*/results.csv")
    with table.open(newline="") as f:
        return list(csv.DictReader(f))


def logged(storage: Path) -> Counter[tuple[str, str]]:
    client = MlflowClient(f"sqlite:///{storage / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("tiny")
    assert experiment is not None
    return Counter((r.data.tags["kind"], r.info.status) for r in client.search_runs([experiment.experiment_id]))


def results(storage: Path) -> dict[str, bytes | None]:
    """Everything in the store that does not say when or how fast it was made."""
    timed = ("manifest.json", "metrics.json")
    return {k: v for k, v in everything_below(storage / "stages").items() if not k.endswith(timed)}


def assert_equal(storage: Path, undisturbed: Undisturbed) -> None:
    assert results(storage) == results(undisturbed.storage)
    names = ("trial", "status", "nfe", "fid", "fid_features", "seed", "error")
    found, expected = ([{k: row[k] for k in names} for row in rows(s)] for s in (storage, undisturbed.storage))
    assert found == expected
    assert logged(storage) == logged(undisturbed.storage)
    assert not list((storage / "work").glob("*"))


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Undisturbed:
    cwd = tmp_path_factory.mktemp("undisturbed")
    began = time.monotonic()
    finish(start(cwd))
    taken = time.monotonic() - began
    counts = {"sweep": 1, "trial": 4, "teacher": 1, "student": 2}
    assert logged(cwd / "runs") == {(kind, "FINISHED"): count for kind, count in counts.items()}
    return Undisturbed(cwd / "runs", taken)


def test_a_run_killed_with_everything_under_it_at_ten_random_moments_ends_as_if_nothing_had_been(
    undisturbed, tmp_path
):
    moments = random.Random(7)
    for _ in range(KILLS):
        process = start(tmp_path)
        time.sleep(moments.uniform(0.1, 1.0) * undisturbed.seconds)
        kill_all(process)
    finish(start(tmp_path))
    assert_equal(tmp_path / "runs", undisturbed)


@pytest.mark.parametrize("name", ["ray::RayTrainWorker", "ray::TrainController", "ray::ImplicitFunc"])
def test_a_process_that_dies_is_made_up_for_within_the_run(undisturbed, tmp_path, name):
    process = start(tmp_path)
    wait_for("work/*/checkpoints/step-*.json", tmp_path / "runs", process)
    find(process, name).kill()
    finish(process)
    assert_equal(tmp_path / "runs", undisturbed)


def test_the_same_command_given_twice_at_once_trains_and_logs_everything_once(undisturbed, tmp_path):
    both = [start(tmp_path), start(tmp_path)]
    for process in both:
        finish(process)
    assert_equal(tmp_path / "runs", undisturbed)


ON_A_SMALL_DISK = """\
mkdir -p runs && mount -t tmpfs -o size=700k tmpfs runs
{command}; echo "ended with $?"
mount -o remount,size=200m runs
{command}; echo "ended with $?"
cp -r runs kept
"""


def test_a_full_disk_ends_a_run_with_one_clear_line_and_loses_nothing(undisturbed, tmp_path):
    (tmp_path / "x.yaml").write_text(EXPERIMENT)
    script = ON_A_SMALL_DISK.format(command=f"{sys.executable} -m orchestrator.sweep x.yaml")
    rights = [] if os.geteuid() == 0 else ["--map-root-user"]  # a mount of this process's own, gone with it
    said = subprocess.run(
        ["unshare", "--mount", *rights, "bash", "-c", script], cwd=tmp_path, env=own_environment(),
        capture_output=True, text=True, timeout=PATIENCE,
    )  # fmt: skip
    assert "Traceback" not in said.stdout + said.stderr
    first, rest = said.stdout.split("ended with ", 1)
    assert rest.startswith("1"), first
    assert "No space left on device" in first
    assert rest.rstrip().endswith("ended with 0"), said.stdout + said.stderr
    assert results(tmp_path / "kept") == results(undisturbed.storage)
