import pytest
import torch
from distill_cases import (
    PATHS,
    SPIRAL,
    distance,
    finished,
    four_normals,
    from_teacher,
    seeded,
    shares,
    spiral,
    teacher_of,
    training_of,
    winds,
)  # fmt: skip

from kaccore.distill import EndpointDistiller, ProgressiveDistiller
from kaccore.sampling import sample

X0 = torch.linspace(-1, 1, 400).reshape(200, 2)


@pytest.mark.parametrize("intervals", [1, 4])
def test_the_student_of_an_euler_teacher_learns_the_square_of_its_half_step(intervals):
    distiller = ProgressiveDistiller(spiral, PATHS["kac"], intervals=intervals)
    half = torch.eye(2) - SPIRAL / (2 * intervals)
    student = lambda x, t, labels=None: intervals * (x - x @ (half @ half).T)  # noqa: E731
    assert distiller.loss(student, X0, generator=seeded(1)) < 1e-9
    assert distiller.loss(spiral, X0, generator=seeded(1)) > 1e-3


def test_the_first_teacher_may_take_its_two_steps_with_another_solver():
    exact = torch.linalg.matrix_exp(-SPIRAL / 2)
    student = lambda x, t, labels=None: 2 * (x - x @ exact.T)  # noqa: E731
    losses = [
        ProgressiveDistiller(spiral, PATHS["kac"], intervals=2, solver=solver).loss(
            student, X0, generator=seeded(2)
        )
        for solver in ("rk4", "euler")
    ]
    assert losses[0] < 1e-6 and losses[1] > 1e-3


def test_the_teacher_is_asked_at_the_two_points_of_its_own_grid():
    seen, starts = [], []
    distiller = ProgressiveDistiller(
        lambda x, t, labels: seen.append(t) or x, PATHS["kac"], intervals=4
    )
    distiller.loss(lambda x, t, labels=None: starts.append(t) or x, X0, generator=seeded(3))
    assert (
        len(seen) == 2
        and torch.equal(seen[0], starts[0])
        and torch.allclose(seen[1], starts[0] - 1 / 8)
    )


def test_a_guided_teacher_teaches_the_guided_field():
    labels = torch.arange(200) % 3
    distiller = ProgressiveDistiller(winds, PATHS["kac"], intervals=2, guidance=1.5)
    assert distiller.loss(lambda x, t, k: 1.5 * winds(x, t, k), X0, labels, seeded(4)) < 1e-10
    assert distiller.loss(winds, X0, labels, seeded(4)) > 0.1


def test_halving_from_eight_steps_to_one_keeps_what_the_eight_steps_made():
    path, teacher = PATHS["kac"], teacher_of("kac")
    model, students = teacher, {}
    for intervals in (4, 2, 1):
        stage = ProgressiveDistiller(model, path, intervals=intervals)
        model = finished(training_of(from_teacher(model), 150, 6e-3), stage.loss, batch_size=128)
        students[intervals] = sample(model, path, (1000, 2), steps=intervals, seed=5).images
    plain = {
        steps: sample(teacher, path, (1000, 2), steps=steps, seed=5).images
        for steps in (1, 2, 4, 8)
    }

    def off(points: torch.Tensor) -> float:
        """Root mean square from where eight steps of the teacher take the same noise."""
        return (points - plain[8]).square().mean().sqrt().item()

    for steps, points in students.items():
        assert off(points) < 0.3 * off(plain[steps])
    assert distance(students[1]) < 0.05 * distance(plain[1])
    assert distance(students[2]) < 0.3 * distance(plain[2])


@pytest.mark.parametrize("kind", PATHS)
def test_one_step_of_an_endpoint_student_is_nearer_to_the_data_than_one_of_its_teacher(kind):
    path, teacher = PATHS[kind], teacher_of(kind)
    stage = EndpointDistiller(teacher, path, intervals=1, substeps=8)
    student = finished(training_of(from_teacher(teacher), 180, 6e-3), stage.loss, batch_size=128)
    points = sample(student, path, (1000, 2), steps=1, seed=6).images
    assert distance(points) < 0.06 * distance(
        sample(teacher, path, (1000, 2), steps=1, seed=6).images
    )
    assert min(shares(points)) > 0.12


def test_the_data_are_four_normals_of_equal_weight():
    points = four_normals(8000, seeded(7))
    assert distance(points) < 0.005 and min(shares(points)) > 0.23


@pytest.mark.parametrize(
    "options, match",
    [({"intervals": 0}, "steps = 0"), ({"intervals": 2, "solver": "rk45"}, "solver = 'rk45'")],
)
def test_a_stage_that_makes_no_sense_is_refused(options, match):
    with pytest.raises(ValueError, match=match):
        ProgressiveDistiller(spiral, PATHS["kac"], **options)
