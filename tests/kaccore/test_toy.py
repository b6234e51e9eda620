import math

import pytest
import scipy.stats
import torch
from torch import nn

from kaccore.data.mixture import CENTRES, WIDTH, grid_of_gaussians, log_density
from kaccore.diagnostics.likelihood import log_likelihood, prior_log_density
from kaccore.losses import flow_matching_loss
from kaccore.metrics.transport import wasserstein2
from kaccore.paths import DiffusionPath, FlowMatchingPath, KacPath
from kaccore.process import KacProcess
from kaccore.sampling import sample

MATRIX = torch.tensor([[0.4, -1.0], [0.7, 0.3]], dtype=torch.float64)
ENTROPY = math.log(9) + 1 + math.log(2 * math.pi * WIDTH**2)  # the modes do not overlap


def square(reach: float, points: int) -> tuple[torch.Tensor, float]:
    """Cell centres of [-reach, reach]^2, (points^2, 2) float64, and the area of a cell."""
    axis = (torch.arange(points, dtype=torch.float64) + 0.5) * (2 * reach / points) - reach
    return torch.cartesian_prod(axis, axis), (2 * reach / points) ** 2


def still(x, t, labels=None):
    return torch.zeros_like(x)


def swirl(x, t, labels=None):
    """A field with a divergence that varies in space and time."""
    turned = torch.stack([x[:, 1], -x[:, 0]], dim=1)
    return torch.sin(2 * x) * (0.5 + t[:, None]) + 0.8 * turned * torch.exp(
        -x.square().sum(1, keepdim=True)
    )


# --- data
# -----------------------------------------------------------------------------------------------------------


def test_points_are_drawn_from_the_density_that_is_stated():
    points, labels = grid_of_gaussians(18_000, seed=0)
    assert scipy.stats.chisquare(labels.bincount(minlength=9).numpy()).pvalue > 1e-3
    deviations = (points - CENTRES[labels]) / WIDTH
    for coordinate in deviations.T:
        assert scipy.stats.kstest(coordinate.numpy(), "norm").pvalue > 1e-3
    assert abs(float(torch.corrcoef(deviations.T)[0, 1])) < 0.03
    assert float(log_density(points).mean()) == pytest.approx(-ENTROPY, abs=4 / math.sqrt(18_000))


def test_the_density_integrates_to_one_and_each_modes_as_well():
    cells, area = square(1.0, 200)
    assert float(log_density(cells).exp().sum() * area) == pytest.approx(1, abs=1e-6)
    labels = torch.full((len(cells),), 5)
    assert float(log_density(cells, labels).exp().sum() * area) == pytest.approx(1, abs=1e-6)
    modes = (
        torch.stack([log_density(cells, torch.full_like(labels, k)) for k in range(9)])
        .exp()
        .mean(0)
    )
    assert torch.allclose(modes, log_density(cells).exp(), rtol=1e-9)


def test_the_grid_is_three_by_three_and_a_draw_depends_on_its_seed_alone():
    assert CENTRES.unique(dim=0).shape == (9, 2) and all(
        len(axis.unique()) == 3 for axis in CENTRES.T
    )
    torch.manual_seed(1)
    first = grid_of_gaussians(50, seed=2)
    torch.manual_seed(3)
    second, other = grid_of_gaussians(50, seed=2), grid_of_gaussians(50, seed=3)
    assert torch.equal(first.points, second.points) and torch.equal(first.labels, second.labels)
    assert not torch.equal(first.points, other.points)
    assert first.points.dtype == torch.float32 and first.labels.dtype == torch.int64


# --- priors
# ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path", [FlowMatchingPath(0.7), DiffusionPath(width=0.7), DiffusionPath("vp", 0.7)]
)
def test_a_normal_priors_density_is_the_normal_one(path):
    x = torch.randn(20, 3, generator=torch.Generator().manual_seed(4)).double()
    density, singular = prior_log_density(path, x)
    assert torch.allclose(
        density, torch.from_numpy(scipy.stats.norm.logpdf(x.numpy(), scale=0.7)).sum(1)
    )
    assert singular == 0


@pytest.mark.parametrize("damping", [0.5, 3.0, 25.0])
@pytest.mark.parametrize("clock", ["linear", "quadratic"])
def test_a_kac_priors_density_and_its_atoms_make_one(damping, clock):
    path = KacPath(KacProcess(damping, 2.0), clock=clock)
    cells, area = square(2.5, 250)  # the light cone's edge, 2, falls between two cells
    density, singular = prior_log_density(path, cells)
    assert float(density.exp().sum() * area) == pytest.approx(1 - singular, abs=1e-4)
    outside = (cells.abs() > 2).any(1)
    assert density[outside].isneginf().all() and density[~outside].isfinite().all()
    noise = path.prior((20_000, 2), torch.Generator().manual_seed(6))
    on_lines = int((noise.abs() >= 2 * (1 - 1e-6)).any(1).sum())
    assert scipy.stats.binomtest(on_lines, 20_000, singular).pvalue > 1e-3


def test_priors_without_a_density_in_closed_form_are_refused():
    class Foreign(FlowMatchingPath):
        pass

    assert prior_log_density(Foreign(), torch.zeros(1, 2)).singular_mass == 0
    for path, match in (
        (KacPath(KacProcess(3, 2), signal="exponential"), "contains data"),
        (object(), "prior density of object is not known"),
    ):
        with pytest.raises(ValueError, match=match):
            prior_log_density(path, torch.zeros(1, 2))


# --- the likelihood of a flow
# ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", [FlowMatchingPath(0.7), KacPath(KacProcess(3.0, 2.0))])
def test_a_linear_flow_has_the_likelihood_of_its_matrix_exponential(path):
    points = torch.rand(30, 2, generator=torch.Generator().manual_seed(6)).double() * 1.5 - 0.75
    result = log_likelihood(lambda x, t, labels: x @ MATRIX.T, path, points, steps=30)
    noise = points @ torch.linalg.matrix_exp(MATRIX).T
    assert torch.allclose(result.noise, noise, atol=1e-6)
    expected = prior_log_density(path, noise).log_density + MATRIX.trace()
    assert torch.allclose(result.log_density, expected, atol=1e-5)


def test_a_field_that_does_not_move_leaves_the_prior():
    points, path = torch.rand(10, 2).double(), KacPath(KacProcess(3.0, 2.0))
    for field in (still, lambda x, t, labels: x.detach() * 0):
        result = log_likelihood(field, path, points, steps=1, solver="euler")
        assert torch.equal(result.log_density, prior_log_density(path, points).log_density)


@pytest.mark.parametrize(
    "path, mass",
    [(FlowMatchingPath(0.7), 1.0), (KacPath(KacProcess(1.0, 1.0)), (1 - math.exp(-1)) ** 2)],
)
def test_the_density_of_any_flow_integrates_to_all_but_the_singular_mass(path, mass):
    cells, area = square(4.0, 320)
    result = log_likelihood(swirl, path, cells, steps=10)
    assert result.singular_mass == pytest.approx(1 - mass)
    # the Kac density jumps at the image of the light cone, which cuts through cells
    assert float(result.log_density.exp().sum() * area) == pytest.approx(
        mass, abs=1e-5 if mass == 1 else 2e-3
    )


def test_samples_of_a_flow_fall_where_its_density_says():
    path = FlowMatchingPath(0.7)
    cells, area = square(4.0, 160)
    mass = log_likelihood(swirl, path, cells, steps=10).log_density.exp() * area
    images = sample(swirl, path, (4000, 2), steps=50, solver="rk4", seed=7).images
    for inside in (
        lambda x: x[:, 0] > 0.3,
        lambda x: x.norm(dim=1) < 0.5,
        lambda x: (x > 0.1).all(1),
    ):
        assert (
            scipy.stats.binomtest(
                int(inside(images).sum()), 4000, float(mass[inside(cells)].sum())
            ).pvalue
            > 1e-3
        )


def test_points_from_beyond_the_light_cone_cannot_be_generated():
    path = KacPath(KacProcess(3.0, 2.0))
    result = log_likelihood(
        lambda x, t, labels: 1.5 * torch.ones_like(x),
        path,
        torch.tensor([[0.0, 0], [0.6, 0]]),
        steps=4,
    )
    assert result.log_density.isneginf().tolist() == [False, True]
    assert result.noise.tolist() == [pytest.approx([1.5, 1.5]), pytest.approx([2.1, 1.5])]


def test_labels_and_guidance_reach_the_field():
    def towards(x, t, labels):
        return torch.where(labels < 0, 0.0, labels + 1.0)[:, None] * x

    labels, points = torch.tensor([0, 1]), torch.full((2, 2), 0.1).double()
    result = log_likelihood(
        towards, FlowMatchingPath(), points, steps=20, labels=labels, guidance=1.5
    )
    rate = 1.5 * (labels + 1.0).double()
    assert torch.allclose(result.noise, points * rate.exp()[:, None], rtol=1e-4)
    prior = prior_log_density(FlowMatchingPath(), result.noise).log_density
    assert torch.allclose(result.log_density, prior + 2 * rate, rtol=1e-4)


def test_what_has_no_likelihood_is_refused():
    for points, options, match in (
        (torch.zeros(2, 1, 2, 2), {}, r"\(2, 1, 2, 2\): expected \(N, D\)"),
        (torch.zeros(2, 2), {"solver": "rk45"}, "solver = 'rk45'"),
        (torch.zeros(2, 2), {"steps": 0}, "steps = 0"),
    ):
        with pytest.raises(ValueError, match=match):
            log_likelihood(still, FlowMatchingPath(), points, **{"steps": 1, **options})


# --- a trained model
# ------------------------------------------------------------------------------------------------


class Small(nn.Module):
    """A velocity in two dimensions: 9,500 weights, with an embedding of the class."""

    def __init__(self) -> None:
        super().__init__()
        self.classes = nn.Embedding(9, 8)
        self.layers = nn.Sequential(
            nn.Linear(2 + 5 + 8, 64), nn.SiLU(), nn.Linear(64, 64), nn.SiLU(), nn.Linear(64, 64), nn.SiLU(),
            nn.Linear(64, 2),
        )  # fmt: skip

    def forward(self, x, t, labels=None):
        t = t[:, None]
        waves = [wave(k * t) for k in (3, 9) for wave in (torch.sin, torch.cos)]
        return self.layers(torch.cat([x, t, *waves, self.classes(labels)], dim=1))


def test_a_kac_flow_learns_the_grid_and_its_classes():
    path = KacPath(KacProcess(25.0, 2.0), clock="quadratic")
    generator = torch.Generator().manual_seed(8)
    steps = 500
    torch.manual_seed(0)
    model, data = Small(), grid_of_gaussians(20_000, seed=0)
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(steps):
        index = torch.randint(20_000, (256,), generator=generator)
        optimizer.zero_grad()
        flow_matching_loss(
            model, path, data.points[index], data.labels[index], generator
        ).backward()
        optimizer.step()
        schedule.step()
    fresh, again = grid_of_gaussians(450, seed=1), grid_of_gaussians(450, seed=2)
    likelihood = log_likelihood(
        model, path, fresh.points, steps=20, labels=fresh.labels
    ).log_density.mean()
    best = log_density(
        fresh.points, fresh.labels
    ).mean()  # Gibbs: on average no density does better than the data's own
    assert best - 0.3 < likelihood < best + 0.05
    drawn = sample(
        model, path, (450, 2), steps=50, solver="heun", seed=3, labels=fresh.labels
    ).images
    own_mode = ((drawn - CENTRES[fresh.labels]).norm(dim=1) < 0.3).float().mean()
    assert own_mode > 0.95
    assert wasserstein2(drawn, fresh.points) < wasserstein2(
        again.points, fresh.points
    )  # the classes are as many
