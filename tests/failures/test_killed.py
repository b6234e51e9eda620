"""Processes killed with -9 at the worst moments, two sweeps at once; and then the same command
again.

After each: the results are those of a run that nothing disturbed, MLflow has every run once and
none of them RUNNING, no process is left, and nothing that a rerun would have to remove by hand."""

import json
import random
import subprocess
import time
from pathlib import Path

import psutil
import pytest
from commands import PATIENCE, kill_all
from sweeps import assert_equal, find, finish, left_over, start

from orchestrator.store.folder import Folder
from orchestrator.store.leases import newest

SEEDS, KILLS = (7, 8), 5  # ten moments, in two halves that can be tried side by side


def newer_checkpoint(cwd: Path, process: subprocess.Popen[str], last: int) -> int:
    """The step of the first checkpoint after step `last`, once it is written: somebody trains
    on."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline and process.poll() is None:
        steps = [
            int(p.stem.removeprefix("step-"))
            for p in (cwd / "runs").glob("work/*/checkpoints/step-*.json")
        ]
        if max(steps, default=0) > last:
            return max(steps)
        time.sleep(0.1)
    raise AssertionError(f"no checkpoint after {last}: {process.communicate(timeout=5)}")


def holder(cwd: Path) -> psutil.Process:
    """The coordinator that holds the newest lease on the stage that has checkpoints; another one
    may wait for it."""
    (folder,) = {p.parents[1] for p in (cwd / "runs").glob("work/*/checkpoints/step-*.json")}
    lease = json.loads((folder / f"lease.{newest(Folder(folder))}").read_text())
    return psutil.Process(int(lease["owner"].split(":")[1]))


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("seed", SEEDS)
def test_a_run_killed_with_all_under_it_at_random_moments_ends_as_if_nothing_had_been(
    undisturbed, tmp_path, seed
):
    """Minutes: five runs up to some moment of their whole time, and a sixth to its end."""
    moments = random.Random(seed)
    for kill in range(KILLS):
        process = start(tmp_path)
        time.sleep(moments.uniform(0.1, 1.0) * undisturbed.seconds)
        if kill % 2:
            kill_all(process)
        else:
            process.kill()  # the driver alone, and what it has started goes with it
            process.communicate(timeout=PATIENCE)
            assert left_over(tmp_path) == []
    finish(start(tmp_path))
    assert_equal(tmp_path / "runs", undisturbed)


def test_processes_that_die_are_made_up_for_within_the_run(undisturbed, tmp_path):
    """Over a minute: worker groups and coordinators are started six times, one after the other."""
    process, last = start(tmp_path), 0
    for which in ("worker", "coordinator", "coordinator", "worker", "coordinator"):
        last = newer_checkpoint(tmp_path, process, last)
        (
            holder(tmp_path) if which == "coordinator" else find(process, "ray::RayTrainWorker")
        ).kill()
    newer_checkpoint(tmp_path, process, last)
    finish(process)
    assert_equal(tmp_path / "runs", undisturbed)


def test_the_same_command_given_twice_at_once_trains_and_logs_everything_once(
    undisturbed, tmp_path
):
    """Over a minute: two Rays start on the same cores, and two sweeps go on beside each other."""
    both = [start(tmp_path), start(tmp_path)]
    for process in both:
        finish(process)
    assert_equal(tmp_path / "runs", undisturbed)
