"""The draw in closed form, held against reversals one by one, a bisection and Bessel functions."""

import math

import numpy as np
import pytest
import scipy.stats
import torch
from kac_cases import CASES, numbers, seeded
from scipy.optimize import brentq

from kaccore import kac_draws
from kaccore.process import KacProcess

MEANS = (1e-8, 1e-3, 0.3, 2.0, 11.0, 25.0, 300.0, 1e6, 1e9)  # tau, the mean number of reversals


def by_reversals(a: float, c: float, t: float, count: int) -> torch.Tensor:
    """The slow form: given n ~ Poisson(a t) reversals the share of the time spent in the first
    direction is Beta(floor(n/2) + 1, ceil(n/2)), since holding times given n are Dirichlet(1, ...,
    1) t."""
    rng = np.random.default_rng(1)
    n = rng.poisson(a * t, count)
    share = np.where(n == 0, 1.0, rng.beta(n // 2 + 1, np.maximum((n + 1) // 2, 1)))
    return numbers(rng.choice([-1.0, 1.0], count) * c * t * (2 * share - 1))


def root(tau: float, e: float) -> float:
    """d with d - log(1 + d k(tau - d)) = e, by bisection."""

    def excess(d: float) -> float:
        y = tau - d
        return d - math.log1p(d * math.expm1(-y) ** 2 / (2 * y) if y > 0 else 0.0) - e

    return brentq(excess, e, tau, xtol=1e-300, rtol=1e-14, maxiter=1000)


@pytest.mark.parametrize("a, c, t", CASES)
def test_draws_follow_the_law_of_reversals_one_by_one(a, c, t):
    slow = by_reversals(a, c, t, 50_000)
    (fast, straight) = KacProcess(a, c).sample(numbers(t), (50_000,), seeded(1))
    edge = c * t * (1 - 1e-12)
    assert scipy.stats.ks_2samp(slow[slow.abs() < edge], fast[~straight]).pvalue > 1e-3
    table = [[int(each.sum()), int((~each).sum())] for each in (straight, slow.abs() >= edge)]
    assert scipy.stats.fisher_exact(table).pvalue > 1e-3


@pytest.mark.parametrize("dtype, close", [(torch.float32, 5e-7), (torch.float64, 1e-12)])
@pytest.mark.parametrize("mean", MEANS)
def test_the_equation_is_solved_to_the_last_digits(mean, dtype, close):
    levels = np.concatenate(
        [np.logspace(-12, -0.01, 60), 1 - np.logspace(-6, -2, 20)]
    )  # probabilities
    e = numbers(-np.log1p(levels * math.expm1(-mean)), dtype)
    e = e[e < numbers(mean, dtype)]
    d = [root(float(numbers(mean, dtype)), float(each)) for each in e]
    assert kac_draws.depth(numbers(mean, dtype).expand_as(e), e).tolist() == pytest.approx(
        d, rel=close
    )


def test_the_resistance_is_that_of_the_bessel_functions():
    z = numbers([0.0, *np.logspace(-6, 8, 3_000)])
    exact = torch.where(
        z > 0, z * torch.special.i0e(z) / torch.special.i1e(z.clamp_min(1e-30)), 2.0
    )
    assert kac_draws.resistance(z.square()).tolist() == pytest.approx(exact.tolist(), rel=1e-12)
    assert kac_draws.resistance(z.square().float()).tolist() == pytest.approx(
        exact.tolist(), rel=3e-7
    )


@pytest.mark.parametrize("dtype, close", [(torch.float32, 2e-6), (torch.float64, 1e-8)])
@pytest.mark.parametrize("a, c, t", [*CASES, (1e-8, 3.0, 1.0), (1e9, 3e4, 1.0), (25.0, 2.0, 0.0)])
def test_a_draw_comes_with_the_velocity_of_its_place(a, c, t, dtype, close):
    process, t = KacProcess(a, c), numbers(t, dtype)
    x, velocity, straight = process.sample_with_velocity(t, (5_000,), seeded(2))
    again = process.sample(t, (5_000,), seeded(2))
    assert torch.equal(x, again.x)
    assert torch.equal(straight, again.straight)
    assert velocity.dtype == dtype
    exact = process.velocity(x.double(), t.double(), straight)
    # a float32 x is known to 6e-8 of itself, and near the cone the velocity is steep
    assert (velocity.double() - exact).abs().max() <= close * c * max(1.0, math.sqrt(a * float(t)))
    assert (velocity.abs() <= c * (1 + 1e-6)).all()


SHAPES = [((40, 3, 5), torch.rand(40)), ((700,), torch.tensor(0.4)), ((7, 90), torch.rand(7, 90))]


@pytest.mark.parametrize("shape, t", SHAPES)
def test_the_blocks_in_which_draws_are_made_do_not_show(shape, t, monkeypatch):
    process = KacProcess(25.0, 2.0)
    whole = process.sample_with_velocity(t, shape, seeded(3))
    monkeypatch.setattr(kac_draws, "BLOCK", 100)
    for mine, theirs in zip(process.sample_with_velocity(t, shape, seeded(3)), whole, strict=True):
        torch.testing.assert_close(mine, theirs)


def test_nothing_and_a_single_number_can_be_drawn():
    process = KacProcess(25.0, 2.0)
    assert process.sample(0.5, ()).x.shape == ()
    for shape in ((0,), (0, 3), (3, 0)):
        assert process.sample_with_velocity(0.5, shape).velocity.shape == shape
