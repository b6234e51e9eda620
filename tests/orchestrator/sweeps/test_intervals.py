"""Intervals: how often they hold the truth, and what they come from."""

import math

import numpy as np
import pytest

from orchestrator.sweeps.intervals import (
    IMAGES,
    SAMPLINGS,
    TRAININGS,
    Intervals,
    Resamples,
    Sample,
)

TRUTH = np.array([0.25, 0.27, 0.28, 0.31, 0.9])
SIMULATED = 1500


def simulated(
    random: np.random.Generator, seeds: int, between: float, error: float
) -> list[Sample]:
    """A sweep of known truth: settings of TRUTH, whose logarithms share what a seed does to all."""
    of_seed = between * random.standard_normal(seeds)
    noise = error * random.standard_normal((len(TRUTH), seeds))
    values = TRUTH[:, None] * np.exp(of_seed + noise)
    return [Sample(dict(enumerate(row.tolist()))) for row in values]


@pytest.mark.parametrize("seeds, between", [(3, 0.0), (3, 0.05), (3, 0.2), (5, 0.05)])
def test_of_many_sweeps_the_intervals_hold_the_truth_in_93_to_97_of_100(seeds, between):
    random = np.random.default_rng(11)
    levels = ratios = 0
    for _ in range(SIMULATED):
        samples = simulated(random, seeds, between, error=0.04)
        found = Intervals(samples, ratios=True)
        assert found.source == TRAININGS
        level = found.level(samples[1])
        ratio = found.against(samples[3], samples[0])
        levels += level.low <= TRUTH[1] <= level.high
        ratios += ratio.low <= TRUTH[3] / TRUTH[0] <= ratio.high
    for held in (levels, ratios):
        assert 0.93 <= held / SIMULATED <= 0.97


def test_of_two_seeds_the_ratios_hold_the_truth_as_often():
    random = np.random.default_rng(11)
    held = 0
    for _ in range(SIMULATED):
        samples = simulated(random, 2, 0.2, error=0.04)
        ratio = Intervals(samples, ratios=True).against(samples[3], samples[0])
        held += ratio.low <= TRUTH[3] / TRUTH[0] <= ratio.high
    assert 0.93 <= held / SIMULATED <= 0.97


def test_of_many_sweeps_of_equal_settings_one_is_told_from_the_best_in_few():
    random = np.random.default_rng(1)
    told = 0
    for _ in range(SIMULATED):
        values = 0.3 * np.exp(0.04 * random.standard_normal((6, 3)))
        samples = [Sample(dict(enumerate(row.tolist()))) for row in values]
        found = Intervals(samples, ratios=True)
        best = min(samples, key=lambda sample: found.level(sample).value)
        others = [sample for sample in samples if sample is not best]
        told += any(not found.tied(other, best, len(others) * 6 // 2) for other in others)
    assert told / SIMULATED < 0.08


def resamples(random: np.random.Generator, fid: float, noise: np.ndarray) -> Resamples:
    return Resamples(fid + noise, 0.01 * random.standard_normal(len(noise)))


def test_one_training_seed_is_measured_by_its_images_and_two_networks_in_pairs():
    random = np.random.default_rng(0)
    common = 0.02 * random.standard_normal(400)
    samples = [
        Sample({0: fid}, {0: resamples(random, fid, fid * (common + 0.002 * random.standard_normal(400)))})
        for fid in (1.0, 1.2)
    ]  # fmt: skip
    found = Intervals(samples, ratios=True)
    assert found.source == IMAGES
    level, ratio = found.level(samples[0]), found.against(samples[1], samples[0])
    assert math.log(level.high / level.low) > 5 * math.log(ratio.high / ratio.low)
    assert ratio.value == pytest.approx(1.2) and ratio.low < 1.2 < ratio.high
    assert not found.tied(samples[1], samples[0])


def test_without_resamples_the_spread_between_samplings_counts_and_without_these_nothing():
    several = [Sample({0: 1.0}, {}, {0: (0.02, 4)}), Sample({0: 1.01}, {}, {0: (0.02, 4)})]
    found = Intervals(several, ratios=True)
    assert found.source == SAMPLINGS
    level = found.level(several[0])
    reach = 3.182 * 0.02 / 2  # Student's t of three degrees of freedom
    assert (level.low, level.high) == pytest.approx((math.exp(-reach), math.exp(reach)), rel=1e-3)
    assert found.tied(several[1], several[0])
    one = [Sample({0: 1.0}), Sample({0: 1.5})]
    nothing = Intervals(one, ratios=True)
    assert nothing.source == "" and not nothing.level(one[0]).known
    assert not nothing.tied(one[1], one[0])  # nothing is known
    assert nothing.level(one[0]).text() == "1.00"


def test_a_measure_that_may_be_negative_is_compared_by_differences():
    samples = [Sample({0: -0.01, 1: -0.012, 2: -0.011}), Sample({0: 0.02, 1: 0.019, 2: 0.021})]
    found = Intervals(samples, ratios=True)
    assert not found.ratios
    difference = found.against(samples[1], samples[0])
    assert difference.value == pytest.approx(0.031) and difference.low > 0.02
    assert not found.tied(samples[1], samples[0])


def test_a_setting_that_is_far_worse_does_not_widen_the_intervals_of_the_others():
    near = [Sample({0: 0.25, 1: 0.26, 2: 0.255}), Sample({0: 0.3, 1: 0.31, 2: 0.3})]
    far = Sample({0: 10.0, 1: 40.0, 2: 15.0})
    alone, with_far = Intervals(near, ratios=True), Intervals([*near, far], ratios=True)
    assert with_far.level(near[0]) == alone.level(near[0])
    assert not with_far.tied(far, near[0])


def test_settings_of_other_seeds_are_compared_without_pairs():
    samples = [Sample({0: 1.0, 1: 1.1}), Sample({2: 2.0, 3: 2.1}), Sample({0: 1.5})]
    found = Intervals(samples, ratios=True)
    assert found.against(samples[1], samples[0]).known
    assert not found.against(samples[2], samples[0]).known
    assert found.level(samples[0]).value == pytest.approx(1.05)
