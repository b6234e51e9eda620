import copy
import itertools
import math

import pytest
import scipy.stats
import torch
from torch import nn

from kaccore.distill import EndpointDistiller
from kaccore.losses import flow_matching_loss
from kaccore.paths import FlowMatchingPath, KacPath
from kaccore.process import KacProcess
from kaccore.sampling import sample

PATH = KacPath(KacProcess(25.0, 2.0), clock="quadratic")
MATRIX = torch.tensor([[0.8, -1.5], [1.2, 0.3]])  # a spiral
X0 = torch.linspace(-1, 1, 400).reshape(200, 2)


def spiral(x, t, labels=None):
    """The teacher u = A x, which takes x from t to t - h by the matrix exponential exp(-A h)."""
    return x @ MATRIX.T


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def straightened(h: float):
    """The best student of `spiral` on intervals of length h: the mean velocity (1 - exp(-A h)) x /
    h."""
    mean = (torch.eye(2) - torch.linalg.matrix_exp(-MATRIX * h)) / h
    return lambda x, t, labels=None: x @ mean.T


@pytest.mark.parametrize("target", ["velocity", "endpoint"])
@pytest.mark.parametrize("intervals, eps", [(1, 0.0), (4, 0.0), (4, 0.2)])
def test_the_exact_exponential_map_has_no_loss_against_a_linear_teacher(intervals, eps, target):
    distiller = EndpointDistiller(
        spiral, PATH, intervals=intervals, substeps=20, solver="rk4", target=target, eps=eps
    )
    exact = distiller.loss(straightened((1 - eps) / intervals), X0, generator=seeded())
    untaught = distiller.loss(spiral, X0, generator=seeded())
    assert exact < 1e-10 and untaught > 1e4 * exact


def test_on_a_given_grid_each_interval_is_taught_at_its_own_length():
    times, asked = torch.tensor([1.0, 0.7, 0.1, 0.05]), []

    def student(x, t, labels=None):
        """The exact map of each interval: from 1, from 0.7 and from 0.1."""
        asked.append(t)
        nearest = (t[:, None] - times[:-1]).abs().argmin(1)
        every = torch.stack([straightened(float(h))(x, t) for h in -times.diff()])
        return every[nearest, torch.arange(len(x))]

    distiller = EndpointDistiller(spiral, PATH, times=times, substeps=20, solver="rk4")
    assert distiller.loss(student, X0, generator=seeded()) < 1e-8
    assert set(asked[0].tolist()) == set(times[:-1].tolist())
    assert distiller.loss(spiral, X0, generator=seeded()) > 1e-3


@pytest.mark.parametrize("target", ["velocity", "endpoint"])
def test_the_uniform_grid_is_the_same_whether_it_is_given_or_counted(target):
    settings = {"substeps": 2, "target": target}
    counted = EndpointDistiller(spiral, PATH, intervals=4, eps=0.2, **settings)
    given = EndpointDistiller(spiral, PATH, times=counted.times.clone(), **settings)
    assert torch.equal(*(d.loss(spiral, X0, generator=seeded(11)) for d in (counted, given)))


@pytest.mark.parametrize("substeps", [1, 3])
def test_the_taught_endpoint_of_an_euler_teacher_is_a_power_of_its_one_step_map(substeps):
    distiller = EndpointDistiller(spiral, PATH, intervals=4, substeps=substeps)
    power = torch.linalg.matrix_power(torch.eye(2) - MATRIX * 0.25 / substeps, substeps)
    student = lambda x, t, labels=None: (x - x @ power.T) / 0.25  # noqa: E731
    assert distiller.loss(student, X0, generator=seeded(1)) < 1e-10


@pytest.mark.parametrize("intervals, eps", [(1, 0.0), (5, 0.0), (4, 0.2)])
def test_the_two_targets_agree_up_to_the_square_of_the_interval(intervals, eps):
    losses = {
        target: EndpointDistiller(
            spiral, PATH, intervals=intervals, substeps=4, target=target, eps=eps
        ).loss(lambda x, t, labels=None: torch.sin(x), X0, generator=seeded(2))
        for target in ("velocity", "endpoint")
    }
    h = (1 - eps) / intervals
    assert losses["endpoint"].item() == pytest.approx(h**2 * losses["velocity"].item(), rel=1e-4)


@pytest.mark.parametrize("intervals, eps", [(1, 0.0), (4, 0.0), (4, 0.2)])
def test_the_student_is_asked_at_the_points_of_its_own_grid_each_as_often(intervals, eps):
    seen = []
    distiller = EndpointDistiller(spiral, PATH, intervals=intervals, substeps=2, eps=eps)
    distiller.loss(
        lambda x, t, labels=None: seen.append(t) or x, torch.zeros(4000, 2), generator=seeded(3)
    )
    times, counts = seen[0].unique(return_counts=True)
    expected = [1 - n * (1 - eps) / intervals for n in reversed(range(intervals))]
    assert times.tolist() == pytest.approx(expected)
    assert intervals == 1 or scipy.stats.chisquare(counts.numpy()).pvalue > 1e-3


def test_the_teacher_crosses_only_the_interval_that_the_student_has_to_cross():
    seen = []
    distiller = EndpointDistiller(
        lambda x, t, labels: seen.append(t) or x, PATH, intervals=4, substeps=5
    )
    starts = []
    distiller.loss(lambda x, t, labels=None: starts.append(t) or x, X0, generator=seeded(4))
    assert len(seen) == 5
    for j, t in enumerate(seen):
        assert torch.allclose(t, starts[0] - j * 0.25 / 5, atol=1e-6)


def test_points_come_from_the_path_at_the_start_of_their_interval():
    seen = []
    distiller = EndpointDistiller(spiral, PATH, intervals=2, substeps=1)
    distiller.loss(
        lambda x, t, labels=None: seen.append((x, t)) or x,
        torch.zeros(20_000, 1, 1, 2),
        generator=seeded(5),
    )
    x, t = seen[0]
    for start in (0.5, 1.0):
        drawn = x[t == start].flatten()
        fresh = PATH.process.sample(start**2, drawn.shape, seeded(6)).x
        assert scipy.stats.ks_2samp(drawn.numpy(), fresh.numpy()).pvalue > 1e-3


def test_a_guided_teacher_teaches_the_guided_field():
    def winds(x, t, labels):
        """A wind of strength 1 + label; none for the null label. Guidance by s makes it s (1 +
        label)."""
        strength = torch.where(labels < 0, 0.0, labels + 1.0)
        return strength[:, None].expand_as(x)

    labels = torch.arange(200) % 3
    for solver, target in itertools.product(("euler", "heun"), ("velocity", "endpoint")):
        distiller = EndpointDistiller(
            winds, PATH, intervals=2, substeps=3, solver=solver, guidance=1.5, target=target
        )
        guided = distiller.loss(lambda x, t, k: 1.5 * winds(x, t, k), X0, labels, seeded(7))
        plain = distiller.loss(winds, X0, labels, seeded(7))
        assert guided < 1e-10
        scale = 1.0 if target == "velocity" else 0.25
        assert plain.item() == pytest.approx(
            scale * (0.5 * (labels + 1.0)).square().mean().item(), rel=1e-4
        )


def test_only_the_student_learns():
    teacher, student = nn.Linear(2, 2), nn.Linear(2, 2)
    distiller = EndpointDistiller(lambda x, t, labels: teacher(x), PATH, intervals=2, substeps=2)
    distiller.loss(lambda x, t, labels: student(x), X0, generator=seeded(8)).backward()
    assert all(p.grad is None for p in teacher.parameters())
    assert all(p.grad.abs().sum() > 0 for p in student.parameters())


class Small(nn.Module):
    """A velocity in one dimension: 4,500 weights."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(4, 64), nn.SiLU(), nn.Linear(64, 64), nn.SiLU(), nn.Linear(64, 1)
        )  # fmt: skip

    def forward(self, x, t, labels=None):
        t = t[:, None]
        return self.layers(torch.cat([x, t, torch.sin(3 * t), torch.cos(3 * t)], dim=1))


def trained(model: Small, loss, steps: int = 250) -> Small:
    """`model` after Adam has brought `loss(model, x0, generator)` down on a law with two humps."""
    optimizer, generator = torch.optim.Adam(model.parameters(), lr=5e-3), seeded(9)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(steps):
        side = torch.randint(0, 2, (256, 1), generator=generator) * 2 - 1
        x0 = side * (0.4 + 0.6 * torch.rand(256, 1, generator=generator))
        optimizer.zero_grad()
        loss(model, x0, generator).backward()
        optimizer.step()
        schedule.step()
    return model


def test_a_chain_of_students_keeps_the_teachers_endpoints_in_fewer_steps_than_the_teacher_can():
    torch.manual_seed(0)
    teacher = trained(
        Small(), lambda model, x0, generator: flow_matching_loss(model, PATH, x0, None, generator)
    )
    four, one = copy.deepcopy(teacher), copy.deepcopy(teacher)
    stage = EndpointDistiller(teacher, PATH, intervals=4, substeps=8)
    trained(four, lambda model, x0, generator: stage.loss(model, x0, None, generator))
    last_stage = EndpointDistiller(four, PATH, intervals=1, substeps=4)
    trained(one, lambda model, x0, generator: last_stage.loss(model, x0, None, generator))

    def distance(model: Small, steps: int) -> float:
        """Root mean square from where the teacher takes the same noise in 32 steps."""
        ends = [
            sample(m, PATH, (1000, 1), steps=n, seed=10).images
            for m, n in ((model, steps), (teacher, 32))
        ]
        return (ends[0] - ends[1]).square().mean().sqrt().item()

    assert distance(four, 4) < 0.2 * distance(teacher, 4)
    assert distance(one, 1) < 0.2 * distance(teacher, 1)
    assert distance(one, 1) < distance(four, 1)


@pytest.mark.parametrize(
    "options, match",
    [
        ({"solver": "rk45"}, "solver = 'rk45'"),
        ({"target": "noise"}, "target = 'noise': expected one of velocity, endpoint"),
        ({"substeps": 0}, "substeps = 0"),
        ({"intervals": 0}, "steps = 0"),
        ({"intervals": None}, "needs intervals or times"),
        ({"times": torch.tensor([1.0, 0.0])}, r"intervals = 1, eps = 0\.0: times say both already"),
        (
            {"intervals": None, "times": torch.tensor([1.0, 0.0]), "eps": 0.1},
            "times say both already",
        ),
        *(
            (
                {"intervals": None, "times": torch.tensor(times)},
                "expected two or more, decreasing from 1 to at least 0",
            )
            for times in (
                [1.0],
                [0.9, 0.0],
                [1.0, -0.1],
                [1.0, 0.5, 0.5],
                [1.0, 0.2, 0.4],
                [1.0, math.nan],
                [[1.0]],
            )
        ),
    ],
)
def test_a_distiller_that_makes_no_sense_is_refused(options, match):
    with pytest.raises(ValueError, match=match):
        EndpointDistiller(spiral, PATH, **{"intervals": 1, "substeps": 1, **options})


def test_an_inner_grid_is_where_the_teacher_steps():
    asked: list[float] = []

    def teacher(
        x: torch.Tensor, t: torch.Tensor, labels: torch.Tensor | None = None
    ) -> torch.Tensor:
        asked.extend(t.tolist())
        return torch.zeros_like(x)

    inner = torch.tensor([1.0, 0.9, 0.6, 0.3, 0.0])
    distiller = EndpointDistiller(
        teacher, FlowMatchingPath(), times=inner[::2], inner=inner, substeps=2, target="endpoint"
    )
    distiller.loss(lambda x, t, labels: torch.zeros_like(x), torch.zeros(64, 1, 2, 2))
    assert set(asked) == set(inner[:-1].tolist())


def test_an_inner_grid_that_misses_the_students_times_is_refused():
    inner = torch.tensor([1.0, 0.9, 0.7, 0.3, 0.0])
    with pytest.raises(ValueError, match="inner"):
        EndpointDistiller(lambda x, t, labels: x, FlowMatchingPath(), times=torch.tensor([1.0, 0.6, 0.0]), inner=inner,
                          substeps=2)  # fmt: skip
