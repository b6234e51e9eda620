"""Straight lines to noise that is fitted to the data."""

import math

import pytest
import scipy.stats
import torch

from kaccore.data import load
from kaccore.losses import flow_matching_loss
from kaccore.quantile_path import QuantilePath
from kaccore.sampling import sample

SHAPE = (1, 2, 2)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


class Rows:
    """Data as a prior draws from them."""

    def __init__(self, rows: torch.Tensor) -> None:
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)

    def batch(self, index: torch.Tensor) -> torch.Tensor:
        return self.rows[index]


def skewed(count: int, seed: int) -> torch.Tensor:
    """Four coordinates of different laws, which depend on each other."""
    common = torch.randn(count, 1, generator=seeded(seed))
    own = torch.randn(count, 4, generator=seeded(seed + 1))
    mixed = torch.tanh(common + 0.3 * own) * torch.tensor([0.2, 0.5, 0.9, 0.9])
    mixed[:, 3] = mixed[:, 3].sign() * 0.7  # two values alone
    return mixed.reshape(count, *SHAPE)


@pytest.fixture(scope="module")
def path() -> QuantilePath:
    return QuantilePath.fit(Rows(skewed(3000, 0)), smooth=0.0)


def test_each_coordinate_of_the_noise_has_the_law_of_the_data_and_all_are_independent(path):
    noise = path.prior((4000, *SHAPE), seeded(5)).flatten(1)
    data = skewed(4000, 7).flatten(1)
    assert noise.dtype == torch.float32
    for i in range(3):
        assert scipy.stats.ks_2samp(noise[:, i].numpy(), data[:, i].numpy()).pvalue > 1e-3
    assert (noise[:, 3].abs() - 0.7).abs().median() < 1e-6
    away = torch.eye(4) == 0
    assert torch.corrcoef(data.T)[away].min() > 0.5
    assert torch.corrcoef(noise.T)[away].abs().max() < 0.06


def test_the_uniform_part_adds_its_variance_and_the_moments_are_those_of_the_noise():
    path = QuantilePath.fit(Rows(skewed(3000, 0)), knots=9, smooth=0.2)
    noise = path.prior((40_000, *SHAPE), seeded(5))
    assert torch.allclose(noise.mean(0), path.mean, atol=0.02)
    assert torch.allclose(noise.var(0), path.variance, rtol=0.04)
    without = QuantilePath(path.quantiles, smooth=0.0)
    assert torch.allclose(path.variance, without.variance + 0.04, atol=1e-6)


def test_lines_are_straight_from_data_to_noise_and_no_faster_than_the_limit(path):
    x0 = skewed(500, 3).double()
    start, middle, end = (path.sample(x0, torch.tensor(t), seeded(1)) for t in (0.0, 0.5, 1.0))
    assert torch.equal(start.x, x0) and torch.allclose(middle.x, (start.x + end.x) / 2)
    assert torch.equal(start.velocity, end.velocity)
    assert torch.allclose(end.x - start.x, end.velocity)
    assert end.x.dtype == end.velocity.dtype == torch.float64
    far = path.sample(x0.sign(), torch.tensor(0.3), seeded(1)).velocity.abs().max()
    assert 0.8 * path.speed_limit(1.0) < far <= path.speed_limit(1.0)
    assert path.sample(x0, torch.rand(500), seeded(1)).x.shape == x0.shape


def test_fresh_noise_has_the_mean_and_the_variance_of_the_later_time(path):
    x0 = skewed(1, 3).expand(40_000, *SHAPE)
    for s, t in ((0.0, 0.6), (0.3, 0.8), (0.4, 0.4), (0.5, 1.0)):
        x = path.sample(x0, torch.tensor(s), seeded(1)).x
        later = path.renoise(x, torch.tensor(s), torch.tensor(t), seeded(2))
        mean = (1 - t) * x0[0] + t * path.mean
        assert torch.allclose(later.mean(0), mean, atol=0.02)
        assert torch.allclose(later.var(0), t**2 * path.variance, rtol=0.05, atol=1e-4)


def test_a_table_has_the_quantiles_of_the_data_at_its_levels():
    rows = torch.arange(101.0)[:, None].repeat(1, 2) / 100
    path = QuantilePath.fit(Rows(rows.flip(0)), knots=5)
    assert torch.allclose(path.quantiles[:, 0], torch.tensor([0, 0.25, 0.5, 0.75, 1.0]))
    one = QuantilePath.fit(Rows(rows[7:8]), knots=3, smooth=0.0)
    assert torch.equal(one.prior((6, 2), seeded()), rows[7:8].expand(6, 2))


def test_many_images_are_fitted_by_some_of_them_all_through_the_data():
    rows = torch.linspace(0, 1, 10_000)[:, None]
    path = QuantilePath.fit(Rows(rows), knots=3)
    assert torch.allclose(path.quantiles[:, 0], torch.tensor([0.0, 0.5, 1.0]), atol=1e-3)


@pytest.mark.parametrize("build, message", [
    (lambda: QuantilePath(torch.zeros(1, 2)), "K >= 2"),
    (lambda: QuantilePath(torch.tensor([[1.0], [0.0]])), "do not fall"),
    (lambda: QuantilePath(torch.zeros(2, 1), smooth=-1.0), "smooth = -1.0"),
    (lambda: QuantilePath(torch.zeros(2, 1), smooth=math.nan), "smooth = nan"),
    (lambda: QuantilePath.fit(Rows(torch.zeros(3, 2)), knots=1), "knots = 1"),
    (lambda: QuantilePath.fit(Rows(torch.zeros(0, 2))), "0 images"),
    (lambda: QuantilePath(torch.zeros(2, 3)).prior((4, 2)), r"expected \(B, ...\) of coordinates \(3,\)"),
])  # fmt: skip
def test_what_cannot_be_is_refused(build, message):
    with pytest.raises(ValueError, match=message):
        build()


def test_a_network_learns_it_and_images_are_drawn_each_by_its_own_number():
    data = load("digits")
    path = QuantilePath.fit(data)

    class Zero(torch.nn.Module):
        def forward(self, x, t, labels=None):
            return torch.zeros_like(x)

    x0 = data.batch(torch.arange(200))
    of_noise = flow_matching_loss(Zero(), path, x0, None, seeded(1))
    assert of_noise == pytest.approx(float((x0.var(0) + path.variance).mean()), rel=0.1)
    drawn = sample(Zero(), path, (6, 1, 8, 8), steps=2, seed=4)
    alone = sample(Zero(), path, (2, 1, 8, 8), steps=2, seed=4, first=3)
    assert torch.equal(drawn.images[3:5], alone.images)
    assert drawn.trajectory.light_cone_violations is not None
