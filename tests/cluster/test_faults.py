"""A sweep on three hosts whose training is disturbed in the middle.

After each: the sweep has finished, its results are those of one machine within what sums of floats
differ by, MLflow has every run once, and the store holds nothing half-done."""

import time
from pathlib import Path

import pytest
import torch
from lab import LATER, Lab, process_of
from sweeps import finish, rows
from torch.testing import assert_close

from kaccore.checkpoint import read_tensors

PULLED = 120.0  # seconds
DISTURBED = 75  # the step from which on a training is in its middle


def weights(storage: Path) -> dict[str, dict[str, torch.Tensor]]:
    return {
        p.parent.name: read_tensors(p) for p in sorted(storage.glob("stages/*/model.safetensors"))
    }


def assert_whole(lab: Lab, name: str, undisturbed: Path) -> None:
    storage = lab.storage(name)
    assert_close(weights(storage), weights(undisturbed), rtol=1e-3, atol=1e-5)
    found, expected = (rows(s, n) for s, n in ((storage, name), (undisturbed, "tiny")))
    assert [row["status"] for row in found] == ["done", "done"]
    fids = ([float(row["fid"]) for row in table] for table in (found, expected))
    assert next(fids) == pytest.approx(next(fids), rel=1e-3)
    assert lab.logged(name) == {(kind, "FINISHED"): count for kind, count in
                                {"sweep": 1, "trial": 2, "teacher": 1, "student": 2}.items()}  # fmt: skip
    assert not list((storage / "work").glob("*"))
    assert not list((storage / "ray").glob("*"))


def test_two_workers_on_two_hosts_train_while_two_trials_are_under_way_and_a_host_joins(
    lab, undisturbed
):
    driver = lab.job("whole")
    lab.wait_for_step("whole", 25, driver)
    trainers = lab.hosts_of("ray::RayTrainWorker")
    assert len(trainers) == len(set(trainers)) == 2
    assert len(lab.hosts_of("ray::ImplicitFunc.train")) == 2
    lab.hosts.add(LATER)  # switched on in the middle
    finish(driver)
    assert_whole(lab, "whole", undisturbed)
    lab.wait_for_nodes(4)


def test_a_raylet_that_is_killed_is_made_up_for(lab, undisturbed):
    driver = lab.sweep("raylet")
    lab.wait_for_step("raylet", DISTURBED, driver)
    host = next(host for host in lab.hosts_of("ray::RayTrainWorker") if host.name != "head")
    process_of(host, "raylet/raylet ").kill()
    finish(driver)
    assert_whole(lab, "raylet", undisturbed)


def test_a_driver_that_is_killed_is_made_up_for_by_the_same_command(lab, undisturbed):
    driver = lab.sweep("driver")
    lab.wait_for_step("driver", DISTURBED, driver)
    process_of(lab.hosts["head"], "-m orchestrator.sweep", "name=driver").kill()
    driver.communicate()
    assert driver.returncode != 0
    finish(lab.sweep("driver"))
    assert_whole(lab, "driver", undisturbed)


def test_a_host_whose_cable_is_pulled_for_two_minutes_is_made_up_for_and_comes_back(
    lab, undisturbed
):
    lab.wait_for_nodes(4)
    driver = lab.sweep("cable")
    lab.wait_for_step("cable", DISTURBED, driver)
    host = next(host for host in lab.hosts_of("ray::RayTrainWorker") if host.name != "head")
    host.unplug()
    time.sleep(PULLED)
    host.plug()
    finish(driver)
    assert_whole(lab, "cable", undisturbed)
    lab.wait_for_nodes(4)
