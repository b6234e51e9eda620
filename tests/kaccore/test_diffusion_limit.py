"""As damping and speed grow at fixed speed^2/damping the Kac path becomes the square-root diffusion
path: its draws, its velocities, and what a trained model makes of them. The rate is 1/damping."""

import math
from itertools import pairwise

import pytest
import scipy.stats
import torch
from torch import nn

from kaccore.diagnostics.trajectories import trajectories
from kaccore.paths import DiffusionPath, KacPath
from kaccore.process import KacProcess

WIDTH = 0.5  # sqrt(speed^2/damping): the standard deviation of diffusion's prior
LIMIT = DiffusionPath("sqrt", width=WIDTH)
EARLIEST = (
    0.1  # diffusion's own velocity is unbounded as t -> 0, Kac's is not: no common limit there
)


def kac(damping: float) -> KacPath:
    return KacPath(KacProcess(damping, WIDTH * math.sqrt(damping)))


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def data(count: int, generator: torch.Generator) -> torch.Tensor:
    """Two humps, at -0.6 and 0.6: (count, 1)."""
    side = torch.randint(0, 2, (count, 1), generator=generator) * 2 - 1
    return 0.6 * side + 0.1 * torch.randn(count, 1, generator=generator)


def times(count: int, generator: torch.Generator) -> torch.Tensor:
    return EARLIEST + (1 - EARLIEST) * torch.rand(count, generator=generator)


# --- draws
# ----------------------------------------------------------------------------------------------------------


def test_the_distance_of_the_two_laws_falls_as_one_over_the_damping():
    x = torch.linspace(-2, 2, 2001, dtype=torch.float64)
    normal = torch.from_numpy(scipy.stats.norm.cdf(x.numpy(), scale=WIDTH))
    gaps = [float((kac(a).process.cdf(x, 1.0) - normal).abs().max()) for a in (16, 32, 64, 128)]
    ratios = [one / other for one, other in pairwise(gaps)]
    assert ratios == pytest.approx([2, 2, 2], abs=0.1) and gaps[-1] < 2e-3


def test_draws_come_nearer_to_the_normal_law_until_no_test_tells_them_apart():
    count = 40_000
    draws = {a: kac(a).prior((count,), seeded(1)).double().numpy() for a in (1, 2, 4, 8, 1000)}
    distance = [scipy.stats.kstest(x, "norm", (0, WIDTH)).statistic for x in draws.values()]
    kurtosis = [abs(scipy.stats.kurtosis(x)) for x in draws.values()]
    spread = [abs(x.var() / WIDTH**2 - 1) for x in draws.values()]
    for measured in (distance, kurtosis, spread):  # the last one is at the noise of so many draws
        assert (
            all(one > 1.2 * other for one, other in pairwise(measured[:4]))
            and measured[4] < measured[3]
        )
    assert scipy.stats.kstest(draws[1000], "norm", (0, WIDTH)).pvalue > 1e-3
    assert scipy.stats.kstest(draws[4], "norm", (0, WIDTH)).pvalue < 1e-6
    assert kurtosis[-1] < 4 * math.sqrt(24 / count) and spread[-1] < 4 * math.sqrt(2 / count) + 1e-3


def test_the_whole_path_has_the_moments_of_diffusion_in_the_limit():
    x0, t = data(40_000, seeded(2)), times(40_000, seeded(3))
    near, far, limit = (
        path.sample(x0, t, seeded(4)).x.flatten().numpy() for path in (kac(500), kac(1), LIMIT)
    )
    assert scipy.stats.ks_2samp(near, limit).pvalue > 1e-3
    assert scipy.stats.ks_2samp(far, limit).pvalue < 1e-6


# --- velocities
# -----------------------------------------------------------------------------------------------------


def test_velocities_at_the_same_points_come_nearer_as_one_over_the_damping():
    x0, t = data(5000, seeded(5)).double(), times(5000, seeded(6)).double()
    x, velocity = LIMIT.sample(x0, t, seeded(7))
    error = {}
    for a in (10, 100, 1000, 10_000, 100_000):
        path = kac(a)
        f = path.signal(t[:, None])
        noise = x - f.value * x0
        mine = f.derivative * x0 + path.process.velocity(noise, t)
        error[a] = float((mine - velocity).square().mean().sqrt())
    assert all(one > 2 * other for one, other in pairwise(error.values()))
    # up to damping 100 some points lie beyond the light cone still, which adds to the error
    assert error[1000] / error[10_000] == pytest.approx(10, rel=0.05)
    assert error[10_000] / error[100_000] == pytest.approx(10, rel=0.05)
    assert error[100_000] < 1e-4


# --- what is learned
# ------------------------------------------------------------------------------------------------


class Small(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(5, 64), nn.SiLU(), nn.Linear(64, 64), nn.SiLU(), nn.Linear(64, 1)
        )

    def forward(self, x, t, labels=None):
        t = t[:, None]
        return self.layers(torch.cat([x, t, t.sqrt(), torch.sin(3 * t), torch.cos(3 * t)], dim=1))


def trained(path, steps: int = 400) -> Small:
    """The velocity of `path` on [EARLIEST, 1], from the same weights and the same data every
    time."""
    torch.manual_seed(0)
    model, generator = Small(), seeded(8)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(steps):
        x0, t = data(512, generator), times(512, generator)
        sample = path.sample(x0, t, generator)
        optimizer.zero_grad()
        (model(sample.x, t) - sample.velocity).square().mean().backward()
        optimizer.step()
        schedule.step()
    return model


def test_a_trained_model_approaches_the_one_trained_on_diffusion_in_field_and_in_samples():
    def generated(model, path):
        return trajectories(model, path, (3000, 1), steps=40, solver="heun", seed=9, end=EARLIEST)[
            -1
        ].flatten()

    limit, t = trained(LIMIT), times(4000, seeded(11))
    points = LIMIT.sample(data(4000, seeded(10)), t, seeded(12)).x
    expected = generated(limit, LIMIT)
    field = []
    samples = []
    for a in (1, 8, 64):
        path = kac(a)
        model = trained(path)
        with torch.no_grad():
            field.append(float((model(points, t) - limit(points, t)).square().mean().sqrt()))
        samples.append(
            scipy.stats.wasserstein_distance(generated(model, path).numpy(), expected.numpy())
        )
    assert field[0] > 1.5 * field[1] > 2.25 * field[2]
    # 3,000 draws of one law lie 0.02 apart, and strong damping no further than the training's error
    # from that
    assert samples[0] > 1.5 * samples[1] and max(samples[1:]) < 0.045
    truth = LIMIT.sample(
        data(3000, seeded(13)), torch.full((3000,), EARLIEST), seeded(14)
    ).x.flatten()
    assert scipy.stats.wasserstein_distance(expected.numpy(), truth.numpy()) < 0.045
