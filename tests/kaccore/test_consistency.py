import itertools

import pytest
import scipy.stats
import torch
from distill_cases import (
    PATHS,
    Field,
    distance,
    finished,
    from_teacher,
    rotation,
    seeded,
    shares,
    spiral,
    teacher_of,
    training_of,
    winds,
)  # fmt: skip

from kaccore.distill import ConsistencyDistiller, sample_consistency
from kaccore.distill.consistency import jump
from kaccore.paths import DiffusionPath, FlowMatchingPath
from kaccore.sampling import prior_images, sample

X0 = torch.linspace(-1, 1, 400).reshape(200, 2)
PATH = PATHS["kac"]
POINT = 0.5  # where `Homing` leads


def exact(x, t, labels=None, end=None):
    """The mean velocity of `spiral` from t down to end, whose jump is exp(-A (t - end)) x."""
    landed = (rotation(t - end) @ x[:, :, None])[:, :, 0]
    return (x - landed) / (t - end).clamp_min(1e-6)[:, None]


class Homing:
    """Jumps from (x, t) to f(s) POINT and the share s/t of the rest, and remembers where from."""

    def __init__(self) -> None:
        self.points: list[torch.Tensor] = []

    def __call__(self, x, t, labels=None, end=None):
        self.points.append(x)
        t, end = (v.reshape(-1, *[1] * (x.ndim - 1)) for v in (t, end))
        landed = (1 - end) * POINT + end / t * (x - (1 - t) * POINT)
        return (x - landed) / (t - end)


def steady(x, t, labels=None, end=None):
    return 0.3 * x + t.reshape(-1, *[1] * (x.ndim - 1)) - end.reshape(-1, *[1] * (x.ndim - 1))


# --- the loss
# -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("intervals, substeps", [(1, 8), (5, 2)])
def test_the_exact_map_of_a_linear_teacher_has_no_loss(intervals, substeps):
    settings = {"intervals": intervals, "substeps": substeps, "solver": "rk4"}
    loss = ConsistencyDistiller(spiral, PATH, target_model=exact, **settings).loss(
        exact, X0, generator=seeded()
    )
    lazy = lambda x, t, labels=None, end=None: spiral(x, t)  # noqa: E731
    assert loss < 1e-8
    assert (
        ConsistencyDistiller(spiral, PATH, target_model=lazy, **settings).loss(
            lazy, X0, generator=seeded()
        )
        > 1e-4
    )


def test_the_target_goes_on_from_where_the_teacher_arrives_by_the_target_model():
    """Winds: teacher 1, target model 3, student 0: the miss is (t - t') 1 + (t' - s) 3, in its
    square."""
    seen = []

    def student(x, t, labels=None, end=None):
        seen.append((t, end))
        return torch.zeros_like(x)

    blow = lambda x, t, labels=None, end=None: torch.full_like(x, 1.0 if end is None else 3.0)  # noqa: E731
    distiller = ConsistencyDistiller(blow, PATH, target_model=blow, intervals=4)
    loss = distiller.loss(student, X0, generator=seeded(1))
    t, end = seen[0]
    assert loss.item() == pytest.approx(
        (0.25 + 3 * (t - 0.25 - end)).square().mean().item(), rel=1e-5
    )


def test_the_last_interval_leaves_nothing_for_the_target_model_to_say():
    wild = lambda x, t, labels=None, end=None: torch.full_like(x, 1e6)  # noqa: E731
    distiller = ConsistencyDistiller(
        spiral, PATH, target_model=wild, intervals=1, substeps=8, solver="rk4"
    )
    assert distiller.loss(exact, X0, generator=seeded(2)) < 1e-8


def test_jumps_start_on_the_grid_and_end_anywhere_below_the_next_point():
    seen = []

    def student(x, t, labels=None, end=None):
        seen.append((t, end))
        return x

    distiller = ConsistencyDistiller(spiral, PATH, target_model=steady, intervals=4)
    distiller.loss(student, torch.zeros(8000, 2), generator=seeded(3))
    t, end = seen[0]
    times, counts = t.unique(return_counts=True)
    assert (
        times.tolist() == [0.25, 0.5, 0.75, 1.0]
        and scipy.stats.chisquare(counts.numpy()).pvalue > 1e-3
    )
    assert (end[t == 0.25] == 0).all()
    for start in (0.5, 0.75, 1.0):
        assert (
            scipy.stats.kstest((end[t == start] / (start - 0.25)).numpy(), "uniform").pvalue > 1e-3
        )


def test_a_jump_nowhere_changes_nothing():
    torch.manual_seed(0)
    x, t = torch.randn(5, 2), torch.rand(5)
    assert torch.equal(jump(Field(two_times=True), x, t, t), x)


def test_only_the_student_learns():
    teacher, student, target = (Field(two_times=True) for _ in range(3))
    distiller = ConsistencyDistiller(
        lambda x, t, labels: teacher(x, t, labels, t), PATH, target_model=target, intervals=4
    )
    distiller.loss(student, X0, generator=seeded(4)).backward()
    assert all(p.grad is None for frozen in (teacher, target) for p in frozen.parameters())
    assert all(p.grad.abs().sum() > 0 for p in student.parameters())


def test_a_guided_teacher_teaches_the_guided_field():
    guided = lambda x, t, k, end: 1.5 * winds(x, t, k)  # noqa: E731
    labels = torch.arange(200) % 3
    distiller = ConsistencyDistiller(winds, PATH, target_model=guided, intervals=4, guidance=1.5)
    assert distiller.loss(guided, X0, labels, seeded(5)) < 1e-10
    assert distiller.loss(lambda x, t, k, end: winds(x, t, k), X0, labels, seeded(5)) > 1e-2


# --- sampling
# -------------------------------------------------------------------------------------------------------


def test_without_gamma_sampling_is_the_chain_of_jumps_from_the_prior():
    images, nfe = sample_consistency(steady, PATH, (20, 1, 2, 2), steps=4, seed=6)
    x = prior_images(PATH, 6, range(20), (1, 2, 2))
    for t, s in itertools.pairwise((1.0, 0.75, 0.5, 0.25, 0.0)):
        x = jump(steady, x, torch.full((20,), t), torch.full((20,), s))
    assert nfe == 4 and torch.allclose(images, x, atol=1e-6)


@pytest.mark.parametrize("gamma", [0.0, 0.4, 1.0])
@pytest.mark.parametrize("steps", [1, 3])
def test_nfe_is_what_the_network_saw(gamma, steps):
    model = Homing()
    assert (
        sample_consistency(model, PATH, (40, 1, 2, 2), steps=steps, seed=7, gamma=gamma).nfe
        == steps
    )
    assert len(model.points) == steps


@pytest.mark.parametrize("gamma", [0.5, 1.0])
@pytest.mark.parametrize("kind", ["kac", "flow_matching"])
def test_an_image_is_bitwise_the_same_whatever_is_drawn_beside_it(kind, gamma):
    def draw(count, first=0, batch_size=None):
        labels = torch.arange(100)[first : first + count]
        return sample_consistency(lambda x, t, k, end: 0.4 * x + winds(x.flatten(1), t, k).reshape(x.shape) / 50,
                                  PATHS[kind], (count, 1, 2, 2), steps=3, seed=8, gamma=gamma, labels=labels,
                                  first=first, batch_size=batch_size)  # fmt: skip

    whole = draw(50)
    assert len(whole.images.flatten(1).unique(dim=0)) == 50
    for part, at in (
        (draw(50, batch_size=16), slice(0, 50)),
        (draw(3), slice(0, 3)),
        (draw(20, 30), slice(30, 50)),
    ):
        assert torch.equal(part.images, whole.images[at])
        assert torch.equal(part.kinetic_path_energy, whole.kinetic_path_energy[at])


@pytest.mark.parametrize(
    "kind, gamma",
    [
        ("kac", 0.0),
        ("kac", 1.0),
        ("flow_matching", 0.0),
        ("flow_matching", 0.5),
        ("flow_matching", 1.0),
    ],
)
def test_every_jump_starts_from_the_law_of_the_path_with_as_much_fresh_noise_as_gamma_says(
    kind, gamma
):
    """Homing is the exact flow of flow matching for data at one point; on other paths only where it
    jumps to data."""
    model = Homing()
    path = PATHS[kind]
    count = 1000
    images = sample_consistency(
        model, path, (count, 1), steps=4, seed=9, gamma=gamma, batch_size=count
    ).images
    assert torch.allclose(images, torch.full_like(images, POINT), atol=1e-5)
    first, kept = model.points[0][:, 0], 1.0
    for j, t in ((1, 0.75), (2, 0.5), (3, 0.25)):
        here, s = model.points[j][:, 0], (1 - gamma) * t
        if gamma == 1.0 or kind == "flow_matching":
            law = path.sample(torch.full((count, 1), POINT), torch.tensor(t), seeded(10 + j)).x[
                :, 0
            ]
            assert scipy.stats.ks_2samp(here.numpy(), law.numpy()).pvalue > 1e-3
        kept *= (1 - t) / (1 - s) * s / t  # of the first noise, as a share of the deviation at t
        assert scipy.stats.pearsonr(first.numpy(), here.numpy()).statistic == pytest.approx(
            kept, abs=0.12
        )


def test_the_noise_of_every_jump_and_every_seed_is_its_own():
    def noises(seed):
        model = Homing()
        sample_consistency(
            model, FlowMatchingPath(), (500, 1), steps=4, seed=seed, gamma=1.0, batch_size=500
        )
        return [
            ((x - (1 - t) * POINT) / t)[:, 0]
            for x, t in zip(model.points, (1, 0.75, 0.5, 0.25), strict=True)
        ]

    for one, other in itertools.combinations([*noises(1), *noises(2)], 2):
        assert abs(scipy.stats.pearsonr(one.numpy(), other.numpy()).statistic) < 0.2


@pytest.mark.parametrize("gamma, length", [(0.0, 1.0), (1.0, 1.0 + 0.75 + 0.5 + 0.25)])
def test_the_energy_of_a_constant_wind_is_half_its_square_times_the_length_of_the_jumps(
    gamma, length
):
    wind = torch.randn(1, 3, 2, 2, generator=seeded(11))
    blow = lambda x, t, labels, end: wind.expand_as(x)  # noqa: E731
    energy = sample_consistency(
        blow, PATH, (5, 3, 2, 2), steps=4, seed=0, gamma=gamma
    ).kinetic_path_energy
    assert torch.allclose(energy, (length * wind.square().sum() / 2).expand(5), rtol=1e-4)


def test_sampling_puts_a_network_into_evaluation_mode_and_back():
    model = Field(two_times=True).train()
    samples = sample_consistency(model, PATH, (3, 2), steps=2, seed=0, gamma=0.5)
    assert model.training and not samples.images.requires_grad and samples.images.shape == (3, 2)


# --- training
# -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", PATHS)
def test_few_jumps_are_nearer_to_the_data_than_as_many_steps_of_the_teacher_and_compose(kind):
    path, teacher = PATHS[kind], teacher_of(kind)
    training = training_of(from_teacher(teacher, two_times=True), 250, 6e-3)
    distiller = ConsistencyDistiller(
        teacher, path, target_model=training.ema.model, intervals=8, substeps=2
    )
    student = finished(training, distiller.loss, batch_size=128)
    for steps, gamma, bound in ((1, 0.0, 0.12), (2, 0.0, 0.25), (2, 1.0, 0.35), (4, 0.5, 0.5)):
        points = sample_consistency(
            student, path, (1000, 2), steps=steps, seed=12, gamma=gamma
        ).images
        assert distance(points) < bound * distance(
            sample(teacher, path, (1000, 2), steps=steps, seed=12).images
        )
        assert min(shares(points)) > 0.1
    x = path.prior((1000, 2), seeded(13))
    one, half, nil = (torch.full((1000,), s) for s in (1.0, 0.5, 0.0))
    with torch.no_grad():
        straight = jump(student, x, one, nil)
        in_two = jump(student, jump(student, x, one, half), half, nil)
        euler = x - teacher(x, one)
    assert (straight - in_two).square().mean() < 0.12 * (straight - euler).square().mean()


# --- what is refused
# ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options, match",
    [
        ({"solver": "rk45"}, "solver = 'rk45'"),
        ({"substeps": 0}, "substeps = 0"),
        ({"intervals": 0}, "steps = 0"),
    ],
)
def test_a_distiller_that_makes_no_sense_is_refused(options, match):
    with pytest.raises(ValueError, match=match):
        ConsistencyDistiller(spiral, PATH, target_model=exact, **{"intervals": 2, **options})


def test_guidance_without_labels_is_refused():
    distiller = ConsistencyDistiller(spiral, PATH, target_model=exact, intervals=2, guidance=1.5)
    with pytest.raises(ValueError, match=r"guidance = 1\.5: needs labels"):
        distiller.loss(exact, X0)


@pytest.mark.parametrize(
    "options, match",
    [
        ({"gamma": -0.1}, r"gamma = -0\.1"),
        ({"gamma": 1.1}, r"gamma = 1\.1: expected a share in \[0, 1\]"),
        ({"gamma": float("nan")}, "gamma = nan"),
        ({"steps": 0}, "steps = 0"),
        ({"labels": torch.tensor([1, 2, 3])}, "3 labels for 2 images"),
    ],
)
def test_what_cannot_be_sampled_is_refused(options, match):
    with pytest.raises(ValueError, match=match):
        sample_consistency(
            steady, DiffusionPath(), (2, 1, 2, 2), **{"steps": 2, "seed": 0, **options}
        )
