import itertools
import math

import pytest
import torch

from kaccore.diagnostics.gap import W2_LIMIT, endpoint_to_path_gap
from kaccore.diagnostics.trajectories import trajectories, trajectory
from kaccore.metrics.transport import wasserstein2
from kaccore.paths import FlowMatchingPath, KacPath
from kaccore.process import KacProcess
from kaccore.sampling import sample
from kaccore.solvers import SOLVERS, uniform_times

PATH = KacPath(KacProcess(25.0, 2.0), clock="quadratic")
MATRIX = torch.tensor([[0.8, -1.5], [1.2, 0.3]])  # a spiral


def spiral(x, t, labels=None):
    return x @ MATRIX.T


def still(x, t, labels=None):
    return torch.zeros_like(x)


def gap(teacher, student, count=60, **options):
    options = {"intervals": 4, "substeps": 10, "seed": 0, "solver": "rk4", **options}
    return endpoint_to_path_gap(teacher, student, PATH, (count, 2), **options)


# --- trajectories
# ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("solver", SOLVERS)
def test_a_trajectory_visits_what_the_solver_visits_and_ends_where_it_ends(solver):
    x = torch.randn(5, 2, generator=torch.Generator().manual_seed(0))
    times = uniform_times(7)
    way = trajectory(spiral, x, times, solver)
    assert way.shape == (8, 5, 2) and torch.equal(way[0], x)
    assert torch.equal(way[-1], SOLVERS[solver](spiral, x, times))
    for n in (1, 4):
        assert torch.equal(way[n], SOLVERS[solver](spiral, x, times[: n + 1]))


def test_trajectories_end_at_the_images_of_the_same_seed():
    for options in (
        {"solver": "heun", "guidance": 1.5, "labels": torch.arange(20) % 2},
        {"solver": "ab2"},
    ):

        def field(x, t, labels):
            return x - (0 if labels is None else labels[:, None])

        ways = trajectories(field, PATH, (20, 2), steps=6, seed=3, **options)
        images = sample(field, PATH, (20, 2), steps=6, seed=3, **options).images
        assert torch.allclose(ways[-1], images, atol=1e-6) and ways.shape == (7, 20, 2)


def test_trajectories_end_where_they_are_told_to():
    ways = trajectories(
        lambda x, t, labels: torch.ones_like(x), PATH, (4, 2), steps=5, seed=0, end=0.25
    )
    assert torch.allclose(ways[0] - ways[-1], torch.tensor(0.75), atol=1e-6)
    with pytest.raises(ValueError, match="solver = 'rk45'"):
        trajectories(spiral, PATH, (4, 2), steps=5, seed=0, solver="rk45")


# --- optimal transport
# ----------------------------------------------------------------------------------------------


def test_the_assignment_is_the_best_of_all_permutations():
    x, y = torch.randn(2, 6, 3, generator=torch.Generator().manual_seed(1)).double()
    best = min((x - y[list(p)]).square().sum(1).mean() for p in itertools.permutations(range(6)))
    assert wasserstein2(x, y) == pytest.approx(math.sqrt(best), rel=1e-12)


def test_w2_of_a_shuffled_and_shifted_copy_is_the_shift():
    x = torch.rand(300, 1, 2, 2, generator=torch.Generator().manual_seed(2)).double()
    order = torch.randperm(300, generator=torch.Generator().manual_seed(3))
    assert wasserstein2(x, x[order]) == 0
    assert wasserstein2(x, x[order] + 0.5) == pytest.approx(1.0)  # four coordinates, 1/2 each


def test_w2_in_one_dimension_is_that_of_the_sorted_samples():
    x, y = torch.randn(2, 500, 1, generator=torch.Generator().manual_seed(4)).double()
    sorted_distance = (x.sort(0).values - y.sort(0).values).square().mean().sqrt()
    assert wasserstein2(x, y) == pytest.approx(float(sorted_distance), rel=1e-12)


@pytest.mark.parametrize(
    "shapes", [((3, 2), (4, 2)), ((3, 2), (3, 1)), ((0, 2), (0, 2)), ((2001, 1), (2001, 1))]
)
def test_samples_that_cannot_be_assigned_are_refused(shapes):
    with pytest.raises(ValueError, match="expected the same, 1 to 2000 points"):
        wasserstein2(*(torch.zeros(shape) for shape in shapes))


# --- endpoint to path
# -----------------------------------------------------------------------------------------------


def test_a_student_with_its_teachers_endpoints_strays_between_them_by_the_chords_distance():
    mean = (
        torch.eye(2) - torch.linalg.matrix_exp(-MATRIX / 2)
    ) / 0.5  # the exact student of intervals of 1/2
    result = gap(spiral, lambda x, t, labels=None: x @ mean.T, intervals=2)
    assert result.ends.nonzero().flatten().tolist() == [0, 10, 20]
    assert result.times[result.ends].tolist() == pytest.approx([1, 0.5, 0])
    assert result.rms.distance[result.ends].max() < 1e-5 < result.rms.distance[5]
    start = trajectories(still, PATH, (60, 2), steps=1, seed=0)[0]
    arc, whole = (torch.linalg.matrix_exp(-MATRIX * s) for s in (0.25, 0.5))
    chord = (
        start @ (arc - (torch.eye(2) + whole) / 2).T
    )  # teacher less student, halfway through the first interval
    assert torch.allclose(result.per_sample[5], chord.norm(dim=1), atol=1e-5)
    assert result.rms.distance[5].item() == pytest.approx(
        chord.square().sum(1).mean().sqrt().item(), rel=1e-4
    )


@pytest.mark.parametrize("solver", ["euler", "ab2", "rk4"])
@pytest.mark.parametrize("intervals", [1, 3, 5])
def test_no_distance_exceeds_the_bound_of_its_endpoints(solver, intervals):
    def wild(x, t, labels=None):
        return torch.sin(9 * x + 7 * t[:, None]) * 3

    def other(x, t, labels=None):
        return torch.cos(5 * x) + 0.1

    for teacher, student in ((wild, other), (other, wild), (spiral, wild), (wild, wild)):
        result = gap(teacher, student, solver=solver, intervals=intervals)
        for curve in (result.rms, result.w2):
            assert (curve.distance <= curve.bound * (1 + 1e-5)).all()
        assert (result.w2.distance <= result.rms.distance * (1 + 1e-5)).all()


def test_a_teacher_that_goes_out_and_comes_back_attains_the_bound():
    def there_and_back(x, t, labels=None):
        return torch.where(t > 0.5, 3.0, -3.0)[:, None] * torch.tensor([0.6, 0.8])

    result = gap(there_and_back, still, intervals=1, solver="euler")
    assert result.teacher_speed.tolist() == pytest.approx(
        [3.0]
    ) and result.student_speed.tolist() == [0.0]
    for curve in (result.rms, result.w2):
        assert curve.distance[-1].item() == pytest.approx(0, abs=1e-5)
        assert curve.distance[5].item() == pytest.approx(1.5, abs=1e-5)  # B_T h / 2
        assert curve.bound.tolist() == pytest.approx([1.5] * 11, abs=1e-5)


def test_the_bound_is_that_of_each_interval():
    def late(x, t, labels=None):
        return torch.where(t > 0.5, 0.0, 2.0)[:, None] * torch.tensor([1.0, 0.0])

    result = gap(late, still, intervals=2, substeps=2, solver="euler")
    assert result.teacher_speed.tolist() == pytest.approx([0, 2])
    assert result.rms.distance.tolist() == pytest.approx([0, 0, 0, 0.5, 1.0], abs=1e-6)
    assert result.rms.bound.tolist() == pytest.approx(
        [0, 0, 0, 1.0 + 2 * 0.25, 1.0 + 2 * 0.25], abs=1e-6
    )


def test_w2_forgets_who_went_where():
    def mirror(x, t, labels=None):
        return 2 * x  # x (1 - 2 h) at the end of one step: -x for h = 1

    result = endpoint_to_path_gap(
        still,
        mirror,
        FlowMatchingPath(),
        (W2_LIMIT, 2),
        intervals=1,
        substeps=1,
        seed=0,
        solver="euler",
    )
    assert result.rms.distance[-1] > 2.5 > 0.6 > result.w2.distance[-1]
    assert gap(still, still, count=W2_LIMIT + 1, intervals=1, substeps=1).w2 is None


def test_the_grid_ends_at_eps_and_the_teacher_is_guided():
    def winds(x, t, labels):
        return torch.where(labels < 0, 0.0, labels + 1.0)[:, None].expand_as(x)

    labels = torch.arange(60) % 3
    same = gap(winds, lambda x, t, k: 1.5 * winds(x, t, k), labels=labels, guidance=1.5, eps=0.2)
    assert same.rms.distance.max() < 1e-5 and same.times[-1].item() == pytest.approx(0.2)
    other = gap(winds, winds, labels=labels, guidance=1.5, eps=0.2)
    strengths = 0.5 * 0.8 * math.sqrt(2) * (labels + 1.0)
    assert torch.allclose(other.per_sample[-1], strengths, atol=1e-5)
