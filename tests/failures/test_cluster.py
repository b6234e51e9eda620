"""A cluster of several nodes on this machine, one of which is lost; and twenty trials that want one
teacher."""

import json
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import torch
from commands import PATIENCE, TINY, command, manifests, own_environment, settings, wait_for
from ray.cluster_utils import Cluster

from kaccore.checkpoint import read_tensors

TWENTY = """\
sweep:
  max_concurrent_trials: 20
  space:
    sampling.model: {grid: [teacher]}
    sampling.steps: {grid: [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20]}
"""


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    """A head without CPUs of its own and two nodes of one CPU each."""
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    try:
        for _ in range(2):
            cluster.add_node(num_cpus=1)
        yield cluster
    finally:
        cluster.shutdown()


def raylet_of_the_training() -> psutil.Process:
    """The raylet under which a training worker runs, once there is one."""
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        for each in psutil.Process().children(recursive=True):
            try:
                if each.cmdline()[:1] and "ray::RayTrainWorker" in each.cmdline()[0]:
                    parent = each.parent()
                    assert parent is not None
                    return parent
            except psutil.Error:
                continue
        time.sleep(0.1)
    raise AssertionError("nobody trains")


def kinds(storage) -> Counter[str]:
    return Counter(json.loads(m)["kind"] for m in manifests(storage).values())


def test_training_goes_on_from_its_checkpoint_on_another_node_when_its_own_is_lost(
    cluster, tmp_path
):
    (tmp_path / "x.yaml").write_text(TINY)
    arguments = settings(teacher__steps=4000, checkpoint__steps=100)
    driver = subprocess.Popen(
        command("train", "x.yaml", *arguments, "--address", cluster.address), cwd=tmp_path, env=own_environment(),
        text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    wait_for("work/*/checkpoints/step-*.json", tmp_path / "runs", driver)
    raylet_of_the_training().kill()
    said, _ = driver.communicate(timeout=PATIENCE)
    assert driver.returncode == 0, said
    assert kinds(tmp_path / "runs") == {"teacher": 1}
    assert not list((tmp_path / "runs" / "work").glob("*"))


def weights(storage: Path) -> dict[str, torch.Tensor]:
    (file,) = storage.glob("stages/*/model.safetensors")
    return read_tensors(file)


def test_a_group_takes_up_a_node_that_joins_and_goes_on_without_one_that_is_lost(
    monkeypatch, tmp_path
):
    """Over a minute: three groups of workers begin, the last one after Ray has noticed the loss."""
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    (tmp_path / "x.yaml").write_text(TINY)
    arguments = settings(teacher__steps=6000, checkpoint__steps=100)
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    try:
        cluster.add_node(num_cpus=1)
        elastic = ["--set", "cluster.workers={min: 1, max: 3}"]
        driver = subprocess.Popen(
            command("train", "x.yaml", *arguments, *elastic, "--address", cluster.address),
            cwd=tmp_path, env=own_environment(), text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        storage = tmp_path / "runs"
        wait_for("work/*/checkpoints/step-*.json", storage, driver)
        joined = cluster.add_node(num_cpus=1)
        began = wait_for_workers(2, storage, driver)
        wait_for_workers(2, storage, driver, began + 200)  # and has saved what two have trained
        cluster.remove_node(joined, allow_graceful=False)
        wait_for_workers(1, storage, driver)
        said, _ = driver.communicate(timeout=PATIENCE)
        assert driver.returncode == 0, said
    finally:
        cluster.shutdown()
    (manifest,) = manifests(storage).values()
    assert 1 < json.loads(manifest)["workers"] < 2
    alone = subprocess.run(
        command("train", "x.yaml", *arguments, *settings(storage="alone")), cwd=tmp_path, env=own_environment(),
        capture_output=True, text=True, timeout=PATIENCE,
    )  # fmt: skip
    assert alone.returncode == 0, alone.stdout + alone.stderr
    expected = weights(tmp_path / "alone")
    for name, value in weights(storage).items():
        torch.testing.assert_close(value, expected[name], rtol=1e-2, atol=1e-3)


def wait_for_workers(
    count: int, storage: Path, driver: subprocess.Popen[str], after: int = 100
) -> int:
    """The step of a training, well after its start, at which so many workers work on it."""
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until and driver.poll() is None:
        for file in storage.glob("work/*/progress.json"):
            progress = json.loads(file.read_text())
            if progress.get("workers") == count and progress["step"] > after:
                return int(progress["step"])
        time.sleep(0.2)
    raise AssertionError(f"never {count} workers: {driver.communicate(timeout=5)}")


def test_a_run_waits_for_nodes_that_are_still_to_join_says_so_and_begins_when_they_have(
    tmp_path, monkeypatch
):
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    # Ray Train's with a worker group that does not start; it has to begin again, as on a slow cloud
    patience = 2.0
    monkeypatch.setenv("RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S", str(patience))
    (tmp_path / "x.yaml").write_text(TINY)
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    try:
        driver = subprocess.Popen(
            command("train", "x.yaml", "--address", cluster.address), cwd=tmp_path, env=own_environment(), text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        assert driver.stdout is not None
        waiting = next(line for line in driver.stdout if "waiting for nodes to join" in line)
        assert "1 workers of 1 CPUs each need 1, there are 0" in waiting
        time.sleep(3 * patience)
        cluster.add_node(num_cpus=1)
        said, _ = driver.communicate(timeout=PATIENCE)
        assert driver.returncode == 0, said
        assert "all nodes have joined" in said
    finally:
        cluster.shutdown()
    assert kinds(tmp_path / "runs") == {"teacher": 1}


# a group of two workers and one of a worker with two CPUs: each wants all the CPUs that there are
MIXES = (
    settings(cluster__workers=2),
    settings(cluster__cpus_per_worker=2, teacher__lr=1.0e-3),
)
MIX = """\
sweep:
  max_concurrent_trials: 8
  space:
    sampling.model: {grid: [teacher, student]}
    sampling.steps: {grid: [2, 4]}
"""


def test_every_mix_of_worker_groups_and_trials_finishes_on_two_cpus(tmp_path, monkeypatch):
    """Over a minute: two sweeps of four trials each wait for each other's CPUs."""
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 2})
    try:
        (tmp_path / "x.yaml").write_text(TINY + MIX)
        drivers = [
            subprocess.Popen(
                command("sweep", "x.yaml", *mix, "--address", cluster.address), cwd=tmp_path, env=own_environment(),
                text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            )
            for mix in MIXES
        ]  # fmt: skip
        for driver in drivers:
            said, _ = driver.communicate(timeout=PATIENCE)
            assert driver.returncode == 0, said
    finally:
        cluster.shutdown()
    assert kinds(tmp_path / "runs") == {"teacher": 2, "student": 4, "reference": 2, "evaluation": 8}


def test_twenty_trials_that_need_one_teacher_at_the_same_moment_train_one(tmp_path):
    """Over a minute: each of twenty trials has a process, which imports Ray on two cores."""
    (tmp_path / "x.yaml").write_text(TINY + TWENTY)
    said = subprocess.run(
        command("sweep", "x.yaml"), cwd=tmp_path, env=own_environment(), capture_output=True, text=True,
        timeout=PATIENCE,
    )  # fmt: skip
    assert said.returncode == 0, said.stdout + said.stderr
    assert kinds(tmp_path / "runs") == {"teacher": 1, "reference": 2, "evaluation": 20}
