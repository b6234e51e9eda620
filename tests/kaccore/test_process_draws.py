import math

import numpy as np
import pytest
import scipy.integrate
import scipy.stats
import torch
from kac_cases import CASES, numbers, seeded

from kaccore.process import KacProcess


def simulate(
    a: float, c: float, t: float, count: int, seed: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The particle itself, flight by flight: where it is at `t`, its last velocity, how often it
    has reversed."""
    rng = np.random.default_rng(seed)
    velocity = c * rng.choice([-1.0, 1.0], count)
    x = np.zeros(count)
    left = np.full(count, t)
    reversals = np.zeros(count, int)
    while (left > 0).any():
        flight = rng.exponential(1 / a, count)
        turns = flight < left
        x, left = x + velocity * np.minimum(flight, left), np.where(turns, left - flight, 0.0)
        velocity, reversals = np.where(turns, -velocity, velocity), reversals + turns
    return x, velocity, reversals


@pytest.mark.parametrize("a, c, t", CASES)
def test_draws_that_reversed_follow_the_density(a, c, t):
    process = KacProcess(a, c)
    x, straight = process.sample(numbers(t), (40_000,), seeded(1))
    moved, atom = x[~straight].numpy(), math.exp(-a * t)
    law = lambda y: (process.cdf(torch.as_tensor(y), t).numpy() - atom / 2) / (1 - atom)  # noqa: E731
    assert scipy.stats.kstest(moved, law).pvalue > 1e-3


@pytest.mark.parametrize("a, c, t", [*CASES, (1e-8, 3.0, 1.0), (8.0, 1.0, 1.0)])
def test_the_share_of_straight_draws_is_binomial_and_both_atoms_are_as_likely(a, c, t):
    x, straight = KacProcess(a, c).sample(t, (40_000,), seeded(12))
    count = int(straight.sum())
    assert scipy.stats.binomtest(count, 40_000, math.exp(-a * t)).pvalue > 1e-3
    if count:
        assert scipy.stats.binomtest(int((x[straight] > 0).sum()), count, 0.5).pvalue > 1e-3


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("a, c, t", CASES)
def test_a_draw_is_on_the_light_cone_exactly_where_it_never_reversed(a, c, t, dtype):
    t = numbers(t, dtype)
    x, straight = KacProcess(a, c).sample(t, (20_000,), seeded(3))
    assert torch.equal(x.abs() == c * t, straight)
    assert (x.abs() <= c * t).all()


@pytest.mark.parametrize("a, c, t", [*CASES, (1e7, 1e3, 1.0), (1e12, 1e6, 0.3)])
def test_the_draws_variance_is_the_process_variance(a, c, t):
    process = KacProcess(a, c)
    x = process.sample(t, (40_000,), seeded(4)).x.double()
    squares = x.square()
    error = squares.std().item() / math.sqrt(len(x))
    assert squares.mean().item() == pytest.approx(
        process.variance(numbers(t)).item(), abs=4 * error
    )
    assert x.mean().item() == pytest.approx(0, abs=4 * x.std().item() / math.sqrt(len(x)))


@pytest.mark.parametrize("a, c, t", CASES)
def test_draws_agree_with_a_particle_simulated_flight_by_flight(a, c, t):
    x, straight = KacProcess(a, c).sample(numbers(t), (20_000,), seeded(5))
    simulated, _, reversals = simulate(a, c, t, 20_000, seed=6)
    assert scipy.stats.ks_2samp(x[~straight].numpy(), simulated[reversals > 0]).pvalue > 1e-3
    table = [
        [int(straight.sum()), int((~straight).sum())],
        [(reversals == 0).sum(), (reversals > 0).sum()],
    ]
    assert scipy.stats.fisher_exact(table).pvalue > 1e-3


@pytest.mark.parametrize("a, c, t", CASES[:4])
def test_the_mean_of_a_wave_over_the_draws_is_a_damped_oscillator(a, c, t):
    x = KacProcess(a, c).sample(numbers(t), (40_000,), seeded(7)).x
    for k in (
        0.5 / (c * t),
        2 / (c * t),
        6 / (c * t),
    ):  # m(t) = E cos(k X_t):  m'' + 2 a m' + c^2 k^2 m = 0
        motion = lambda _, m, k=k: [m[1], -2 * a * m[1] - (c * k) ** 2 * m[0]]  # noqa: E731
        expected = scipy.integrate.solve_ivp(motion, (0, t), [1.0, 0.0], rtol=1e-9, atol=1e-12).y[
            0, -1
        ]
        waves = (k * x).cos()
        assert waves.mean().item() == pytest.approx(expected, abs=4 * waves.std().item() / 200)


@pytest.mark.parametrize("a, c, t", CASES[:4])
def test_velocity_is_the_mean_direction_of_simulated_particles_that_end_there(a, c, t):
    x, last, reversals = simulate(a, c, t, 200_000, seed=8)
    x, last = x[reversals > 0], last[reversals > 0]
    surprise = last - KacProcess(a, c).velocity(torch.from_numpy(x), t).numpy()
    bins = np.argsort(np.argsort(x)) * 25 // len(x)  # 25 bins of as many particles
    z = [
        surprise[bins == b].mean() / (last[bins == b].std() / math.sqrt((bins == b).sum()))
        for b in range(25)
    ]
    assert scipy.stats.chi2.sf(np.square(z).sum(), 25) > 1e-3


def test_every_pixel_moves_on_its_own():
    x = KacProcess(9.0, 3.0).sample(1.0, (4_000, 2, 3), seeded(9)).x.flatten(1)
    correlation = torch.corrcoef(x.T) - torch.eye(6)
    assert correlation.abs().max() < 4 / math.sqrt(4_000)
