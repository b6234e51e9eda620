"""Matching of distributions: a student's images, of which the teacher is to be the field."""

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
    waves,
)  # fmt: skip
from torch import Tensor, nn

from kaccore.distill import (
    AdversarialLoss,
    EndpointDistiller,
    GeneratedDistiller,
    MatchingLoss,
    StudentAndOthers,
)
from kaccore.distill.generated import ENCODER_OF, STUDENT, Made
from kaccore.distill.matching import FAKE
from kaccore.models import MLP, DiT, UNet
from kaccore.paths import FlowMatchingPath
from kaccore.sampling import sample
from kaccore.tensors import ALL
from kaccore.training import Settings, Training

WIDTH, SIGMA = 0.8, 0.3  # of the prior, and of the normal data
KAC, FLOW = PATHS["kac"], FlowMatchingPath(WIDTH)


def field_of_normal(mean: Tensor):
    """The exact flow matching field E[eps - x0 | x_t = x] for data N(mean, SIGMA^2) and noise N(0,
    WIDTH^2)."""

    def field(x, t, labels=None, network=FAKE):
        t = t[:, None]
        variance = (1 - t) ** 2 * SIGMA**2 + t**2 * WIDTH**2
        slope = (t * WIDTH**2 - (1 - t) * SIGMA**2) / variance
        return -mean + slope * (x - (1 - t) * mean)

    return field


def normal_pull(mean_real: float, mean_now: float) -> float:
    """d/dm of E |u_T - w|^2 for normals of mean m and of `mean_real`, of which either field is
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

    def model(x, t, labels, network=FAKE):
        means = torch.tensor([scale * fields.get(int(k), 0.0) for k in labels])
        return field_of_normal(means[:, None])(x, t)

    return model


def made(images: Tensor, labels: Tensor | None = None, seed: int = 0, real: Tensor | None = None):
    real = torch.zeros_like(images) if real is None else real
    return Made(images, None, real, labels, seeded(seed), ALL)


def networks(seed: int = 0) -> tuple[Field, Field, Field]:
    torch.manual_seed(seed)
    return Field(), Field(), Field()


def weights(network: nn.Module) -> Tensor:
    return torch.cat([p.detach().flatten() for p in network.parameters()])


def pair(student: nn.Module, fake: nn.Module) -> StudentAndOthers:
    return StudentAndOthers(student, {FAKE: fake})


def distiller(path, teacher, every: int = 1, intervals: int = 1, **settings) -> GeneratedDistiller:
    loss = MatchingLoss(path, teacher, **settings)
    return GeneratedDistiller(path, [(1.0, loss)], intervals=intervals, every=every)


# --- the student's gradient


@pytest.mark.parametrize("kind", PATHS)
@pytest.mark.parametrize("settings", [{}, {"first": 1.0}, {"intervals": 3}])
def test_where_the_fake_field_is_the_teacher_the_student_gets_exactly_no_gradient(kind, settings):
    student, teacher, other = networks()
    for fake, still in ((copy.deepcopy(teacher), True), (other, False)):
        both = pair(student, fake)
        both.zero_grad()
        loss = distiller(PATHS[kind], teacher, **settings).loss
        loss(both, torch.zeros(64, 2), generator=seeded()).backward()
        assert still is not any(p.grad.any() for p in student.parameters())
        assert all(p.grad.any() for p in fake.parameters())


@pytest.mark.parametrize("mean_real, mean_now", [(0.5, 0.0), (-0.3, 0.6)])
def test_the_pull_on_images_of_a_normal_is_the_derivative_of_the_distance_of_the_fields(
    mean_real, mean_now
):
    count = 20_000
    teacher = field_of_normal(torch.tensor(mean_real))
    fake = field_of_normal(torch.tensor(mean_now))
    images = mean_now + SIGMA * torch.randn(count, 1, generator=seeded(1))
    pull = MatchingLoss(FLOW, teacher).pull(fake, made(images, seed=2))
    expected = normal_pull(mean_real, mean_now)
    assert expected * (mean_real - mean_now) < 0  # downhill is towards the data
    assert pull.mean().item() == pytest.approx(expected, abs=4 * pull.std().item() / count**0.5)


@pytest.mark.parametrize("first, ratio, alpha", [(0.0, 1.0, 1.0), (1.0, 1.0, 1.0), (1.0, 0.9, 0.8)])
def test_the_pull_is_the_gradient_of_the_stated_loss(first, ratio, alpha):
    """|u_T - rho u|^2 - |w - rho u|^2 with the first term in full, written out."""
    _, fake, teacher = networks(1)
    images = torch.randn(32, 2, generator=seeded(3))
    loss = MatchingLoss(KAC, teacher, first=first, ratio=ratio, alpha=alpha, earliest=0.1)
    both = pair(nn.Identity(), fake)
    pull = loss.pull(both, made(images, seed=4))
    generator = seeded(4)
    t = 1 - 0.9 * torch.rand(32, generator=generator)
    moved = images.clone().requires_grad_()
    x, u = KAC.sample(moved, t, generator)
    true, false = teacher(x, t, None), fake(x, t, None)
    whole = (true - ratio * u).square().sum() - (false - ratio * u).square().sum()
    written = whole - (1 - first) * (true - false).square().sum()
    assert torch.allclose(pull, torch.autograd.grad(written, moved)[0], atol=1e-5)


def test_the_student_moves_its_images_along_the_pull():
    student, fake, teacher = networks(1)
    pulls = []

    class Spied(MatchingLoss):
        def pull(self, networks, made):
            pulls.append((made.images, super().pull(networks, made)))
            return pulls[-1][1]

    both = pair(student, fake)
    loss = GeneratedDistiller(FLOW, [(1.0, Spied(FLOW, teacher))], intervals=1)
    loss.loss(both, torch.zeros(64, 2), None, seeded(3)).backward()
    images, pull = pulls[0]
    z = FLOW.prior((64, 2), seeded(3))
    assert torch.equal(images, z - student(z, torch.ones(64)))
    parameters = list(student.parameters())
    moved = torch.autograd.grad(((z - student(z, torch.ones(64))) * pull).mean(), parameters)
    assert all(torch.allclose(p.grad, g, atol=1e-7) for p, g in zip(parameters, moved, strict=True))


# --- the fake field's loss


def test_the_losss_value_is_the_fake_fields_flow_matching_loss():
    """A student that makes one point a, a fake field that says -a: what is left is the noise's
    variance."""
    point = torch.tensor([0.3, -0.2])

    def both(x, t, labels=None, network=STUDENT):
        return (-point).expand_as(x) if network == FAKE else x - point

    loss = distiller(FLOW, lambda x, t, labels: x).loss(
        both, torch.zeros(20_000, 2), generator=seeded(4)
    )
    assert loss.item() == pytest.approx(WIDTH**2, rel=0.03)


@pytest.mark.parametrize("alpha, ratio", [(0.9, 1.02), (0.5, 0.9)])
def test_with_real_images_the_fake_field_of_the_data_itself_is_best_where_images_are_the_data(
    alpha, ratio
):
    """Scaled by a, the field's loss has its minimum at a = 1: the two parts add up to u."""
    true = field_of_normal(torch.tensor(0.2))
    data = 0.2 + SIGMA * torch.randn(2, 60_000, 1, generator=seeded(5))
    loss = MatchingLoss(FLOW, true, alpha=alpha, ratio=ratio)

    def scaled(a: float) -> float:
        fake = lambda x, t, labels, network: a * true(x, t)  # noqa: E731
        return loss.fake_loss(fake, made(data[0], seed=6, real=data[1])).item()

    low, middle, high = (scaled(a) for a in (0.7, 1.0, 1.3))
    vertex = 0.3 * (low - high) / (2 * (low - 2 * middle + high))
    assert vertex == pytest.approx(0.0, abs=0.02)


def test_no_gradient_reaches_the_teacher():
    student, fake, teacher = networks(2)
    distiller(KAC, teacher).loss(pair(student, fake), torch.zeros(8, 2)).backward()
    assert all(p.grad is None for p in teacher.parameters())


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"alpha": 0.0}, "alpha = 0.0: expected > 0 and <= 1"),
        ({"ratio": 1.02}, "expected 1: no real images with alpha = 1"),
        ({"alpha": 0.9, "ratio": -1.0}, "ratio = -1.0: expected > 0"),
        ({"earliest": 1.0}, "earliest = 1.0: expected >= 0 and < 1"),
    ],
)
def test_settings_that_mean_nothing_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        MatchingLoss(KAC, lambda x, t, labels: x, **settings)


# --- labels and guidance


def test_a_guided_teacher_pulls_every_label_to_the_guided_mean():
    means = {0: -0.5, 1: 0.2, 2: 0.5}
    labels = torch.arange(300) % 3
    images = 0.1 * torch.randn(300, 1, generator=seeded(5))
    loss = MatchingLoss(FLOW, labelled(means), guidance=1.5)
    assert loss.pull(labelled(means, 1.5), made(images, labels, 6)).abs().max() < 1e-5
    pull = loss.pull(labelled(means), made(images, labels, 6))
    for label, mean in means.items():  # the fake field is at the mean, the guided teacher beyond it
        assert pull[labels == label].mean() * mean < -1e-3


def test_labels_reach_both_networks_and_the_teacher():
    seen = []

    def both(x, t, labels=None, network=STUDENT):
        seen.append((network, labels))
        return 0.5 * x

    labels = torch.tensor([2, 0, 1])
    teacher = lambda x, t, k: seen.append(("teacher", k)) or x  # noqa: E731
    with torch.enable_grad():
        x = torch.zeros(3, 2)
        learning = lambda x, t, k=None, network=STUDENT: (  # noqa: E731
            both(x, t, k, network) * torch.ones((), requires_grad=True)
        )
        distiller(KAC, teacher).loss(learning, x, labels, seeded(7))
    assert {who for who, _ in seen} == {STUDENT, FAKE, "teacher"}
    assert all(torch.equal(k, labels) for _, k in seen)


def test_guidance_without_labels_is_refused():
    loss = distiller(KAC, labelled({}), guidance=1.5).loss
    with pytest.raises(ValueError, match=r"guidance = 1\.5: needs labels"):
        loss(pair(Field(), Field()), torch.zeros(4, 2))


# --- steps in which the student rests


def test_the_student_learns_in_one_of_so_many_steps_and_the_fake_field_in_each():
    student, fake, teacher = networks(3)
    both = pair(student, fake)
    learnt = 0
    for step in range(60):
        both.zero_grad()
        distiller(KAC, teacher, every=4).loss(
            both, torch.zeros(8, 2), generator=seeded(step)
        ).backward()
        grads = [bool(p.grad.any()) for p in student.parameters()]
        assert all(grads) or not any(grads)
        assert all(p.grad.any() for p in fake.parameters())
        learnt += all(grads)
    assert 8 <= learnt <= 24  # 15, and its deviation is 3.4


def test_a_student_that_rests_and_adams_averages_of_it_stay_as_they_are():
    student, fake, teacher = networks(5)
    both = StudentAndOthers(student, {FAKE: fake}, rests=True)
    training = Training(both, Settings(steps=12, lr=1e-2, ema=0.5))
    loss = distiller(KAC, teacher, every=4).loss
    moments = lambda: [  # noqa: E731
        value.clone() for name, value in training.state()[0].items() if name.startswith("adam.0.")
    ]
    before, fakes, rested = weights(student), weights(fake), 0
    averages = None
    for _ in training.run(lambda model, step: loss(model, torch.zeros(8, 2), None, seeded(step))):
        now = weights(student)
        if torch.equal(now, before):
            rested += 1
            if averages:
                assert all(torch.equal(a, b) for a, b in zip(averages, moments(), strict=True))
        assert not torch.equal(weights(fake), fakes)
        before, fakes, averages = now, weights(fake), moments()
    assert 4 <= rested <= 11


@pytest.mark.parametrize("every", [1, 3])
def test_wrapped_for_data_parallel_training_both_get_the_same_gradients(tmp_path, every):
    student, fake, teacher = networks(4)
    both = StudentAndOthers(student, {FAKE: fake}, rests=every > 1)
    loss = distiller(KAC, teacher, every=every).loss
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    try:
        wrapped = nn.parallel.DistributedDataParallel(copy.deepcopy(both))
        for step in range(5):
            gradients = []
            for model in (both, wrapped):
                model.zero_grad()
                loss(model, torch.zeros(16, 2), generator=seeded(step)).backward()
                gradients.append([p.grad.clone() for p in model.parameters()])
            assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))
    finally:
        dist.destroy_process_group()


# --- the fake field's encoder as a discriminator


class Encoding(Field):
    """A field whose features in the middle are those before its last layer."""

    def encode(self, x, t, labels=None):
        return self.middle(self.enter(torch.cat([x, waves(t)], dim=1)))


def test_the_encoders_score_is_the_mean_of_its_features_and_both_networks_learn_from_it():
    torch.manual_seed(3)
    student, fake = Field(), Encoding()
    both = pair(student, fake)
    loss = AdversarialLoss(KAC, gamma=0.0, clean=1.0, network=f"{ENCODER_OF}{FAKE}")
    real = torch.randn(32, 2, generator=seeded(2))
    GeneratedDistiller(KAC, [(1.0, loss)], intervals=1).loss(both, real, None, seeded(1)).backward()
    z = KAC.prior((32, 2), seeded(1))
    images, now = z - student(z, torch.ones(32)), torch.zeros(32)
    lead = fake.encode(images, now).mean(1) - fake.encode(real, now).mean(1)
    for network, sign in ((student, -1), (fake, 1)):
        wanted = torch.autograd.grad(
            nn.functional.softplus(sign * lead).mean(), list(network.parameters()),
            retain_graph=True, allow_unused=True,
        )  # fmt: skip
        for parameter, gradient in zip(network.parameters(), wanted, strict=True):
            if gradient is None:  # the last layer has no part in it
                assert parameter.grad is None
            else:
                assert torch.allclose(parameter.grad, gradient, atol=1e-6)


@pytest.mark.parametrize("every", [1, 3])
def test_with_an_encoder_the_student_rests_as_without(every):
    torch.manual_seed(0)
    teacher, student, fake = Field(), Field(), Encoding()
    both = StudentAndOthers(student, {FAKE: fake}, rests=every > 1)
    losses = [
        (1.0, MatchingLoss(KAC, teacher)),
        (0.1, AdversarialLoss(KAC, gamma=0.0, network=f"{ENCODER_OF}{FAKE}")),
    ]
    joined = GeneratedDistiller(KAC, losses, intervals=1, every=every)
    training = Training(both, Settings(12, 1e-3, 0.9))
    before = weights(student)
    moved = []
    for _ in training.run(lambda m, step: joined.loss(m, torch.randn(16, 2), None, seeded(step))):
        moved.append(not torch.equal(weights(student), before))
        before = weights(student)
    assert (sum(moved) == 12) if every == 1 else (0 < sum(moved) < 12)


@pytest.mark.parametrize("network", [
    UNet(8, 1, channels=16, multipliers=(1, 2), blocks=1, classes=3),
    DiT(8, 1, channels=16, depth=3, heads=2, patch=4, classes=3),
    MLP(64, channels=16, classes=3),
], ids=["unet", "dit", "mlp"])  # fmt: skip
def test_networks_have_features_in_their_middle(network):
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.1)
    x, t, labels = torch.randn(5, 1, 8, 8), torch.rand(5), torch.tensor([0, 1, 2, 0, -1])
    features = network.encode(x, t, labels)
    assert len(features) == 5 and features[0].numel() > 1
    for changed in ((x + 1, t, labels), (x, 1 - t, labels), (x, t, labels.roll(1))):
        assert not torch.allclose(features, network.encode(*changed))
    seen = []
    for module in network.modules():
        module.register_forward_hook(lambda m, i, o: seen.append(o))
    network(x, t, labels)
    assert any(isinstance(o, torch.Tensor) and torch.equal(o, features) for o in seen)


# --- training


@pytest.mark.parametrize("kind, bound", [("kac", 0.5), ("flow_matching", 0.5), ("diffusion", 3.0)])
def test_one_step_of_the_student_is_near_to_the_data_and_keeps_all_modes(kind, bound):
    """From a hasty one-step student, whose distance `bound` multiplies; that of square-root
    diffusion is good already, and there it is only to keep near."""
    path, teacher = PATHS[kind], teacher_of(kind)
    stage = EndpointDistiller(teacher, path, intervals=1, substeps=8)
    start = finished(training_of(from_teacher(teacher), 60, 4e-3), stage.loss, batch_size=128)
    both = pair(from_teacher(start), from_teacher(teacher))
    trained = finished(
        training_of(both, 500, 3e-3, ema=0.98), distiller(path, teacher).loss, batch_size=128
    )
    points = {name: sample(model, path, (1000, 2), steps=1, seed=9).images
              for name, model in (("teacher", teacher), ("start", start), ("trained", trained))}  # fmt: skip
    assert distance(points["trained"]) < bound * distance(points["start"])
    assert distance(points["trained"]) < 0.2 * distance(points["teacher"])
    assert min(shares(points["trained"])) > 0.06
