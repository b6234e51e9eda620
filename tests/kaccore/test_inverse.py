import copy

import pytest
import scipy.integrate
import torch
import torch.distributed as dist
from distill_cases import (
    PATHS,
    Field,
    distance,
    finished,
    from_teacher,
    seeded,
    shares,
    teacher_of,
    training_of,
)  # fmt: skip
from torch import nn

from kaccore.distill import EndpointDistiller, InverseDistiller, InversePair
from kaccore.paths import FlowMatchingPath
from kaccore.sampling import sample

WIDTH, SIGMA = 0.8, 0.3  # of the prior, and of the normal data


def field_of_normal(mean: torch.Tensor):
    """The exact flow matching field E[eps - x0 | x_t = x] for data N(mean, SIGMA^2) and noise N(0,
    WIDTH^2)."""

    def field(x, t, labels=None, fake=False):
        t = t[:, None]
        variance = (1 - t) ** 2 * SIGMA**2 + t**2 * WIDTH**2
        slope = (t * WIDTH**2 - (1 - t) * SIGMA**2) / variance
        return -mean + slope * (x - (1 - t) * mean)

    return field


def normal_pull(mean_real: float, mean_now: float) -> float:
    """d/dm of E |u_T - u_F|^2 for normals of mean m and of `mean_real`, of which either field is
    linear."""

    def squared(m: float) -> float:
        def at(mean: float, t: float) -> float:
            field = field_of_normal(torch.tensor(mean))
            return field(torch.zeros(1, 1), torch.tensor([t])).item()

        return scipy.integrate.quad(lambda t: (at(mean_real, t) - at(m, t)) ** 2, 0, 1)[0]

    return (squared(mean_now + 0.01) - squared(mean_now - 0.01)) / 0.02


def labelled(fields: dict[int, float], scale: float = 1.0):
    """The field of N(scale mean of the label, SIGMA^2), scale 1 or the guidance; mean 0 for the
    null label."""

    def model(x, t, labels, fake=False):
        means = torch.tensor([scale * fields.get(int(k), 0.0) for k in labels])
        return field_of_normal(means[:, None])(x, t)

    return model


def networks(seed: int = 0) -> tuple[Field, Field, Field]:
    torch.manual_seed(seed)
    return Field(), Field(), Field()


# --- the generator's gradient
# ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", PATHS)
def test_where_the_fake_field_is_the_teacher_the_generator_gets_exactly_no_gradient(kind):
    generator, teacher, other = networks()
    for fake, still in ((copy.deepcopy(teacher), True), (other, False)):
        pair = InversePair(generator, fake)
        pair.zero_grad()
        InverseDistiller(teacher, PATHS[kind]).loss(
            pair, torch.zeros(64, 2), generator=seeded()
        ).backward()
        assert still is not any(p.grad.any() for p in generator.parameters())
        assert all(p.grad.any() for p in fake.parameters())


@pytest.mark.parametrize("mean_real, mean_now", [(0.5, 0.0), (-0.3, 0.6)])
def test_the_pull_on_samples_of_a_normal_is_the_derivative_of_the_distance_of_the_fields(
    mean_real, mean_now
):
    path, count = FlowMatchingPath(WIDTH), 20_000
    teacher = field_of_normal(torch.tensor(mean_real))
    fake = field_of_normal(torch.tensor(mean_now))
    images = mean_now + SIGMA * torch.randn(count, 1, generator=seeded(1))
    pull = InverseDistiller(teacher, path).pull(fake, images, generator=seeded(2))
    expected = normal_pull(mean_real, mean_now)
    assert expected * (mean_real - mean_now) < 0  # downhill is towards the data
    assert pull.mean().item() == pytest.approx(expected, abs=4 * pull.std().item() / count**0.5)


def test_the_generator_moves_its_images_along_the_pull_and_the_fake_field_learns_their_flow():
    generator, fake, teacher = networks(1)
    path, labels = PATHS["flow_matching"], None
    distiller, pair = InverseDistiller(teacher, path), InversePair(generator, fake)
    pulls = []

    class Spied(InverseDistiller):
        def pull(self, student, images, *rest):
            pulls.append((images, super().pull(student, images, *rest)))
            return pulls[-1][1]

    Spied(teacher, path).loss(pair, torch.zeros(64, 2), labels, seeded(3)).backward()
    images, pull = pulls[0]
    z = path.prior((64, 2), seeded(3))
    assert torch.equal(images, z - generator(z, torch.ones(64)))
    parameters = list(generator.parameters())
    moved = torch.autograd.grad(((z - generator(z, torch.ones(64))) * pull).mean(), parameters)
    assert all(torch.allclose(p.grad, g, atol=1e-7) for p, g in zip(parameters, moved, strict=True))
    flow = torch.randn(64, 2)
    assert distiller.loss(pair, flow, labels, seeded(3)).item() == pytest.approx(
        distiller.loss(pair, 0 * flow, labels, seeded(3)).item()
    )  # of the data only the shape counts


def test_the_losss_value_is_the_fake_fields_flow_matching_loss():
    """A generator that makes one point a, a fake field that says -a: what is left is the noise's
    variance."""
    point = torch.tensor([0.3, -0.2])

    def pair(x, t, labels=None, fake=False):
        return (-point).expand_as(x) if fake else x - point

    loss = InverseDistiller(lambda x, t, labels: x, FlowMatchingPath(WIDTH)).loss(
        pair, torch.zeros(20_000, 2), generator=seeded(4)
    )
    assert loss.item() == pytest.approx(WIDTH**2, rel=0.03)


def test_no_gradient_reaches_the_teacher():
    generator, fake, teacher = networks(2)
    InverseDistiller(teacher, PATHS["kac"]).loss(
        InversePair(generator, fake), torch.zeros(8, 2)
    ).backward()
    assert all(p.grad is None for p in teacher.parameters())


# --- labels and guidance
# --------------------------------------------------------------------------------------------


def test_a_guided_teacher_pulls_every_label_to_the_guided_mean():
    means, path = {0: -0.5, 1: 0.2, 2: 0.5}, FlowMatchingPath(WIDTH)
    labels = torch.arange(300) % 3
    images = 0.1 * torch.randn(300, 1, generator=seeded(5))
    distiller = InverseDistiller(labelled(means), path, guidance=1.5)
    assert distiller.pull(labelled(means, 1.5), images, labels, seeded(6)).abs().max() < 1e-5
    pull = distiller.pull(labelled(means), images, labels, seeded(6))
    for label, mean in means.items():  # the fake field is at the mean, the guided teacher beyond it
        assert pull[labels == label].mean() * mean < -1e-3


def test_labels_reach_both_networks_and_the_teacher():
    seen = []

    def pair(x, t, labels=None, fake=False):
        seen.append(("fake" if fake else "generator", labels))
        return 0.5 * x

    labels = torch.tensor([2, 0, 1])
    teacher = lambda x, t, k: seen.append(("teacher", k)) or x  # noqa: E731
    InverseDistiller(teacher, PATHS["kac"]).loss(pair, torch.zeros(3, 2), labels, seeded(7))
    assert {who for who, _ in seen} == {"generator", "fake", "teacher"}
    assert all(torch.equal(k, labels) for _, k in seen)


def test_guidance_without_labels_is_refused():
    distiller = InverseDistiller(labelled({}), PATHS["kac"], guidance=1.5)
    with pytest.raises(ValueError, match=r"guidance = 1\.5: needs labels"):
        distiller.loss(InversePair(Field(), Field()), torch.zeros(4, 2))


# --- as a model
# -----------------------------------------------------------------------------------------------------


def test_a_pair_is_sampled_as_its_generator_in_one_step():
    generator, fake, _ = networks(3)
    pair = sample(InversePair(generator, fake), PATHS["kac"], (20, 2), steps=1, seed=8)
    assert pair.nfe == 1 and torch.equal(
        pair.images, sample(generator, PATHS["kac"], (20, 2), steps=1, seed=8).images
    )


def test_wrapped_for_data_parallel_training_a_pair_gets_the_same_gradients(tmp_path):
    generator, fake, teacher = networks(4)
    pair = InversePair(generator, fake)
    distiller = InverseDistiller(teacher, PATHS["kac"])
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    try:
        wrapped = nn.parallel.DistributedDataParallel(copy.deepcopy(pair))
        gradients = []
        for step in (0, 1):
            for model in (pair, wrapped):
                model.zero_grad()
                distiller.loss(model, torch.zeros(16, 2), generator=seeded(step)).backward()
                gradients.append([p.grad.clone() for p in model.parameters()])
            assert all(torch.equal(a, b) for a, b in zip(*gradients[-2:], strict=True))
    finally:
        dist.destroy_process_group()


# --- training
# -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind, bound", [("kac", 0.5), ("flow_matching", 0.5), ("diffusion", 3.0)])
def test_one_step_of_the_generator_is_near_to_the_data_and_keeps_all_modes(kind, bound):
    """From a hasty one-step student, whose distance `bound` multiplies; that of square-root
    diffusion is good already, and there the generator is only to keep near."""
    path, teacher = PATHS[kind], teacher_of(kind)
    stage = EndpointDistiller(teacher, path, intervals=1, substeps=8)
    start = finished(training_of(from_teacher(teacher), 60, 4e-3), stage.loss, batch_size=128)
    pair = InversePair(from_teacher(start), from_teacher(teacher))
    trained = finished(
        training_of(pair, 800, 2e-3, ema=0.99), InverseDistiller(teacher, path).loss, batch_size=128
    )
    points = {name: sample(model, path, (1000, 2), steps=1, seed=9).images
              for name, model in (("teacher", teacher), ("start", start), ("trained", trained))}  # fmt: skip
    assert distance(points["trained"]) < bound * distance(points["start"])
    assert distance(points["trained"]) < 0.2 * distance(points["teacher"])
    assert min(shares(points["trained"])) > 0.06
