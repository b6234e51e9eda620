"""Which trials early stopping ends, and that noise alone ends none."""

from types import SimpleNamespace

import numpy as np
import pytest
from ray.tune.schedulers import TrialScheduler

from orchestrator.execution import early_stopping
from orchestrator.execution.successive_halving import Rungs, SuccessiveHalving
from orchestrator.sweeps.training_fids import FID_WHILE_TRAINING, NETWORK, STD_WHILE_TRAINING


def stopped(fids: list[float], std: float, step: int = 100) -> list[int]:
    """The trials that are stopped, of several that come one after the other."""
    rungs = Rungs(100, 3)
    return [i for i, fid in enumerate(fids) if rungs.worse(str(i), step, fid, std)]


def test_without_noise_one_in_reduction_factor_goes_on():
    assert stopped([1.0, 2.0, 3.0, 0.5, 1.5, 0.4], 0.0) == [1, 2, 4]


def test_what_is_within_noise_of_the_cutoff_goes_on_and_what_is_beyond_is_stopped():
    assert stopped([1.0, 1.05, 1.3], std=0.05) == [2]  # 1.64 sqrt(2) 0.05 = 0.116


def test_of_equal_teachers_hardly_any_is_stopped():
    """The first look at 300 sweeps of ten trials that differ by noise alone."""

    def ended(std: float) -> int:
        random = np.random.default_rng(0)
        sweeps = 1 + 0.05 * random.standard_normal((300, 10))
        return sum(len(stopped([float(v) for v in sweep], std)) for sweep in sweeps)

    assert ended(0.05) < 0.25 * 3000 < ended(0.0) / 2


def test_each_rung_asks_once_and_later_ones_compare_with_their_own():
    rungs = Rungs(100, 3)
    assert not rungs.worse("a", 100, 2.0, 0.0)
    assert not rungs.worse("a", 200, 9.0, 0.0)  # between two rungs nothing is asked
    assert not rungs.worse("a", 300, 1.0, 0.0)
    assert not rungs.worse("b", 100, 1.9, 0.0)
    assert rungs.worse("b", 300, 1.5, 0.0)
    assert not rungs.worse("c", 900, 5.0, 0.0)  # the first that comes so far


def test_networks_of_a_kind_compare_with_each_other_alone():
    scheduler = SuccessiveHalving({"teacher": 100, "student": 10}, 3)

    def asked(trial: str, network: str, step: int, fid: float) -> str:
        result = {
            NETWORK: network,
            "step": step,
            FID_WHILE_TRAINING: fid,
            STD_WHILE_TRAINING: 0.0,
        }
        return scheduler.on_trial_result(None, SimpleNamespace(trial_id=trial), result)

    assert asked("a", "teacher", 100, 1.0) == TrialScheduler.CONTINUE
    assert asked("a", "student of 1 step", 10, 2.0) == TrialScheduler.CONTINUE
    assert asked("b", "student of 4 steps", 10, 3.0) == TrialScheduler.CONTINUE
    assert asked("c", "student of 1 step", 9, 9.0) == TrialScheduler.CONTINUE  # too early
    assert asked("c", "student of 1 step", 10, 2.1) == TrialScheduler.STOP
    assert scheduler.on_trial_result(None, SimpleNamespace(trial_id="a"), {"status": "done"}) == (
        TrialScheduler.CONTINUE
    )


def test_the_reason_compares_a_student_with_its_teacher():
    of_teacher = [{"step": 10, "fid": 4.0}, {"step": 20, "fid": 2.0}]
    score = {"step": 30, "fid": 3.0, "std": 0.1}
    report = early_stopping._report("student of 1 step", score, of_teacher)
    assert early_stopping.early_stop_reason(report) == (
        "its student's FID was 3 after 30 steps, 1.5 times its teacher's"
    )
    report = early_stopping._report("teacher", score, of_teacher)
    assert early_stopping.early_stop_reason(report) == "its teacher's FID was 3 after 30 steps"
    assert early_stopping.early_stop_reason({**report, "status": "done"}) == ""
    assert early_stopping.early_stop_reason({"status": "done", "error": ""}) == ""
    assert early_stopping.early_stop_reason({}) == ""


@pytest.mark.parametrize("fid", [float("nan"), float("inf")])
def test_a_teacher_that_diverged_is_stopped(fid):
    rungs = Rungs(100, 3)
    assert not rungs.worse("a", 100, 2.0, 0.1)
    assert rungs.worse("b", 100, fid, 0.1)
