"""Which trials early stopping ends, and that noise alone ends none."""

import numpy as np
import pytest

from orchestrator.execution.successive_halving import SuccessiveHalving


def stopped(fids: list[float], std: float, step: int = 100) -> list[int]:
    """The trials that are stopped, of several that come one after the other."""
    scheduler = SuccessiveHalving(100, 900, 3)
    return [i for i, fid in enumerate(fids) if scheduler.worse(str(i), step, fid, std)]


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
    scheduler = SuccessiveHalving(100, 900, 3)
    assert not scheduler.worse("a", 100, 2.0, 0.0)
    assert not scheduler.worse("a", 200, 9.0, 0.0)  # between two rungs nothing is asked
    assert not scheduler.worse("a", 300, 1.0, 0.0)
    assert not scheduler.worse("b", 100, 1.9, 0.0)
    assert scheduler.worse("b", 300, 1.5, 0.0)
    assert not scheduler.worse("c", 900, 5.0, 0.0)  # the first that comes so far


@pytest.mark.parametrize("fid", [float("nan"), float("inf")])
def test_a_teacher_that_diverged_is_stopped(fid):
    scheduler = SuccessiveHalving(100, 900, 3)
    assert not scheduler.worse("a", 100, 2.0, 0.1)
    assert scheduler.worse("b", 100, fid, 0.1)
