"""Losses on what a student makes: pairs, and a discriminator."""

import copy
import math

import pytest
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
    winds,
)  # fmt: skip
from torch import nn

from kaccore.distill import (
    AdversarialLoss,
    GeneratedDistiller,
    NewPairs,
    Pairs,
    PairsLoss,
    StudentAndOthers,
)
from kaccore.distill.adversarial import DISCRIMINATOR
from kaccore.models import Discriminator
from kaccore.sampling import prior_images, sample
from kaccore.tone import Calibrated, ToneCurve
from kaccore.training import Settings, Training

KAC = PATHS["kac"]


class Shrinking(nn.Module):
    """A field that shrinks images, as a module."""

    def forward(self, x, t, labels=None):
        return 0.5 * x


class Critic(nn.Module):
    """D(x) = a . x, at any time."""

    def __init__(self, *a: float) -> None:
        super().__init__()
        self.a = nn.Parameter(torch.tensor(a))

    def forward(self, x, t, labels=None):
        return x @ self.a


def pairs_of(teacher, count: int, labels=None, seed: int = 3, kind: str = "kac", steps: int = 8):
    ends = sample(teacher, PATHS[kind], (count, 2), steps=steps, seed=seed, labels=labels).images
    return Pairs(ends, labels, seed)


# --- pairs


@pytest.mark.parametrize("kind", PATHS)
def test_a_pair_is_the_noise_of_an_image_and_where_the_teacher_arrives_from_it(kind):
    path = PATHS[kind]
    pairs = pairs_of(winds, 20, kind=kind)
    z, ends = pairs.draw(path, torch.zeros(64, 2), None, seeded())
    every = prior_images(path, 3, range(20), (2,))
    index = [int((every == row).all(1).nonzero()) for row in z]
    assert torch.equal(ends, pairs.ends[index])
    assert len(set(index)) > 15  # all are drawn


def test_the_noise_of_a_labelled_batch_is_that_of_pairs_with_its_labels():
    labels = torch.tensor([2, 0, 2, 1, 0, 2])
    pairs = Pairs(labels[:, None].float().expand(6, 2), labels, 0)
    wanted = torch.tensor([0, 2, 1] * 30)
    _, ends = pairs.draw(KAC, torch.zeros(90, 2), wanted, seeded())
    assert torch.equal(ends[:, 0], wanted.float())
    with pytest.raises(ValueError, match="no pair of 6 has the label 3: draw more pairs"):
        pairs.draw(KAC, torch.zeros(2, 2), torch.tensor([3, 0]), seeded())


def test_pairs_that_cannot_be_are_refused():
    with pytest.raises(ValueError, match="no pairs"):
        Pairs(torch.zeros(0, 2), None, 0)
    with pytest.raises(ValueError, match="3 labels for 2 pairs"):
        Pairs(torch.zeros(2, 2), torch.zeros(3, dtype=torch.long), 0)


def test_new_pairs_end_where_their_teacher_does_a_calibrated_one_on_its_tone_curve():
    rows = torch.tensor([[-2.0, 2.0]])
    curve = ToneCurve(rows, 0.5 * rows)
    z, plain = NewPairs(Shrinking(), steps=4).draw(KAC, torch.zeros(8, 1, 1, 2), None, seeded(2))
    same, toned = NewPairs(Calibrated(Shrinking(), curve), steps=4).draw(
        KAC, torch.zeros(8, 1, 1, 2), None, seeded(2)
    )
    assert torch.equal(z, same) and torch.allclose(toned, curve(plain))


@pytest.mark.parametrize("huber", [None, 0.1])
def test_the_regression_is_on_the_end_of_all_of_the_students_steps(huber):
    torch.manual_seed(0)
    student, pairs = Field(), pairs_of(teacher_of("kac"), 30)
    distiller = GeneratedDistiller(KAC, [(2.0, PairsLoss(huber))], intervals=2, pairs=pairs)
    loss = distiller.loss(student, torch.zeros(16, 2), None, seeded(1))
    z, ends = pairs.draw(KAC, torch.zeros(16, 2), None, seeded(1))
    middle = z - 0.5 * student(z, torch.ones(16))
    error = middle - 0.5 * student(middle, torch.full((16,), 0.5)) - ends
    by_hand = error.square() if huber is None else (error.square() + huber**2).sqrt() - huber
    assert loss.item() == pytest.approx(2 * by_hand.mean().item(), rel=1e-5)
    loss.backward()
    gradients = [p.grad.clone() for p in student.parameters()]
    expected = torch.autograd.grad(2 * by_hand.mean(), list(student.parameters()))
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(gradients, expected, strict=True))


def test_a_distiller_without_losses_or_with_two_grids_is_refused():
    with pytest.raises(ValueError, match="at least one"):
        GeneratedDistiller(KAC, [], intervals=1)
    with pytest.raises(ValueError, match="times say both already"):
        GeneratedDistiller(KAC, [(1.0, PairsLoss())], intervals=1, times=torch.tensor([1.0, 0.0]))


# --- the discriminator


def networks(student: nn.Module, critic: nn.Module) -> StudentAndOthers:
    return StudentAndOthers(student, {DISCRIMINATOR: critic})


def test_the_student_follows_the_discriminator_and_only_its_own_weights_do():
    """With D(x) = a . x the gradient in an image is that of softplus(D(r_t) - D(x_t)): -a f(t)
    sigmoid(...)/B; here without noise."""
    torch.manual_seed(0)
    student, critic = Field(), Critic(0.6, -0.8)
    adversarial = AdversarialLoss(KAC, clean=1.0, gamma=0.0)
    distiller = GeneratedDistiller(KAC, [(1.0, adversarial)], intervals=1)
    both, real = networks(student, critic), torch.randn(32, 2, generator=seeded(2))
    distiller.loss(both, real, None, seeded(1)).backward()
    z = KAC.prior((32, 2), seeded(1))
    images = z - student(z, torch.ones(32))
    scores = torch.nn.functional.softplus(critic(real, 0) - critic(images, 0)).mean()
    expected = torch.autograd.grad(scores, list(student.parameters()), retain_graph=True)
    got = [p.grad for p in student.parameters()]
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(got, expected, strict=True))
    opposite = torch.nn.functional.softplus(critic(images.detach(), 0) - critic(real, 0)).mean()
    (expected_of_critic,) = torch.autograd.grad(opposite, [critic.a])
    assert torch.allclose(critic.a.grad, expected_of_critic, atol=1e-6)


def test_the_penalty_is_the_discriminators_alone_and_scores_far_apart_do_no_harm():
    torch.manual_seed(0)
    critics = {"near": Critic(0.6, -0.8), "far": Critic(3e3, -4e3)}
    for name, critic in critics.items():
        gradients = []
        for gamma in (0.0, 50.0):
            both = networks(Field(), critic)
            both.generator.load_state_dict(teacher_of("kac").state_dict())
            adversarial = AdversarialLoss(KAC, clean=0.3, gamma=gamma)
            distiller = GeneratedDistiller(KAC, [(1.0, adversarial)], intervals=1)
            total = sum(
                distiller.loss(both, torch.ones(8, 2), None, seeded(seed)) for seed in range(12)
            )
            both.zero_grad()
            total.backward()
            assert all(p.grad.isfinite().all() for p in both.parameters())
            gradients.append(torch.cat([p.grad.flatten() for p in both.generator.parameters()]))
        assert torch.equal(*gradients), name
        assert gradients[0].abs().max() > 0


def test_the_value_is_log_2_where_the_discriminator_knows_nothing():
    adversarial = AdversarialLoss(KAC, gamma=0.0)
    both = networks(Field(), Critic(0.0, 0.0))
    distiller = GeneratedDistiller(KAC, [(1.0, adversarial)], intervals=1)
    value = distiller.loss(both, torch.zeros(8, 2), None, seeded())
    assert value.item() == pytest.approx(math.log(2))


def test_the_penalty_is_of_the_slope_at_real_and_at_made_images():
    """D(x) = a . x has the slope a everywhere: on the average gamma |a|^2."""
    both = networks(Field(), Critic(0.6, -0.8))
    values = {}
    for gamma in (0.0, 0.5):
        adversarial = AdversarialLoss(KAC, gamma=gamma, clean=1.0)
        distiller = GeneratedDistiller(KAC, [(1.0, adversarial)], intervals=1)
        total = sum(
            distiller.loss(both, torch.zeros(4, 2), None, seeded(seed)).item()
            for seed in range(400)
        )
        values[gamma] = total / 400
    assert values[0.5] - values[0.0] == pytest.approx(0.5, abs=0.12)


def test_images_are_compared_at_the_times_and_with_the_labels_of_the_batch():
    seen = []

    class Spy(Critic):
        def forward(self, x, t, labels=None):
            seen.append((t, labels))
            return super().forward(x, t)

    labels = torch.arange(64) % 3
    both = networks(Field(), Spy(1.0, 0.0))
    both.get_submodule("generator").forward = lambda x, t, labels: 0.5 * x
    adversarial = AdversarialLoss(KAC, gamma=0.0, clean=0.25, latest=0.5)
    distiller = GeneratedDistiller(KAC, [(1.0, adversarial)], intervals=1)
    for seed in range(8):
        distiller.loss(both, torch.zeros(64, 2), labels, seeded(seed))
    times = torch.stack([t for t, _ in seen])
    assert all(torch.equal(got, labels) for _, got in seen)
    assert times.max() <= 0.5 and times.max() > 0.45
    assert (times == 0).float().mean() == pytest.approx(0.25, abs=0.04)


@pytest.mark.parametrize(
    "settings, message",
    [({"gamma": -1.0}, "gamma"), ({"clean": 1.5}, "clean"), ({"latest": 0.0}, "latest")],
)
def test_settings_outside_of_their_range_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        AdversarialLoss(KAC, **settings)


@pytest.mark.parametrize("size, channels", [(1, 2), (2, 1), (8, 1), (27, 1), (28, 1), (32, 3)])
def test_a_discriminator_scores_images_of_any_size(size, channels):
    x = torch.randn(5, channels, size, size)
    critic = Discriminator(size, channels, classes=4)
    scores = critic(x, torch.rand(5), torch.arange(5) % 4)
    assert scores.shape == (5,)
    assert not torch.equal(scores, critic(x, torch.rand(5), torch.arange(5) % 4))


# --- several workers, several networks


def joined(pairs: Pairs) -> GeneratedDistiller:
    losses = [(0.3, PairsLoss(0.03)), (1.0, AdversarialLoss(KAC, gamma=0.1))]
    return GeneratedDistiller(KAC, losses, intervals=2, pairs=pairs)


def test_workers_that_share_a_batch_give_the_gradient_of_one():
    torch.manual_seed(0)
    both = networks(Field(), Discriminator(1, 2))
    distiller, real = joined(pairs_of(teacher_of("kac"), 30)), torch.randn(16, 2)
    gradients = []
    for shards in ([slice(None)], [slice(0, None, 2), slice(1, None, 2)]):
        both.zero_grad()
        for shard in shards:
            loss = distiller.loss(both, real, None, seeded(4), shard)
            (loss / len(shards)).backward()
        gradients.append([p.grad.clone() for p in both.parameters()])
    assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(*gradients, strict=True))


def test_wrapped_for_data_parallel_training_they_get_the_same_gradients(tmp_path):
    torch.manual_seed(1)
    both = networks(Field(), Discriminator(1, 2))
    distiller = joined(pairs_of(teacher_of("kac"), 30))
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    try:
        wrapped = nn.parallel.DistributedDataParallel(copy.deepcopy(both))
        for step in range(6):  # with and without a penalty
            gradients = []
            for model in (both, wrapped):
                model.zero_grad()
                distiller.loss(model, torch.zeros(16, 2), None, seeded(step)).backward()
                gradients.append([p.grad.clone() for p in model.parameters()])
            assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))
    finally:
        dist.destroy_process_group()


def test_each_network_has_its_own_rate_and_moments_also_after_a_pause():
    def fresh() -> Training:
        torch.manual_seed(2)
        other = {DISCRIMINATOR: {"lr": 2.0, "betas": (0.0, 0.99)}}
        both = StudentAndOthers(Field(), {DISCRIMINATOR: Discriminator(1, 2)}, other)
        return Training(both, Settings(8, 1e-3, 0.9))

    distiller = joined(pairs_of(teacher_of("kac"), 30))

    def loss(model, step):
        return distiller.loss(model, torch.zeros(16, 2), None, seeded(step))

    whole = fresh()
    for _, metrics in whole.run(loss):
        rates = [group["lr"] for group in whole.optimizer.param_groups]
        assert rates == [metrics["lr"], 2 * metrics["lr"]]
    assert [g["betas"] for g in whole.optimizer.param_groups] == [(0.9, 0.999), (0.0, 0.99)]
    paused, resumed = fresh(), fresh()
    for step, _ in paused.run(loss):
        if step == 4:
            break
    resumed.restore(*paused.state())
    for _ in resumed.run(loss):
        pass
    ends = zip(whole.model.state_dict().values(), resumed.model.state_dict().values(), strict=True)
    assert all(torch.equal(a, b) for a, b in ends)


def test_the_gradient_of_each_network_is_clipped_by_itself():
    """The discriminator's is a thousand times larger: the student's stays as it is."""
    both = StudentAndOthers(Field(), {DISCRIMINATOR: Critic(1.0, 0.0)})
    training = Training(both, Settings(1, 1e-3, 0.9, clip=1.0))

    def loss(model, step):
        student = 1e-3 * sum(p.sum() for p in both.generator.parameters())
        return student + 1e3 * model.discriminator.a.sum()

    for _ in training.run(loss):
        pass
    assert both.discriminator.a.grad.norm() == pytest.approx(1.0, rel=1e-4)
    assert all(torch.allclose(p.grad, torch.tensor(1e-3)) for p in both.generator.parameters())


def test_it_is_sampled_as_the_student_alone():
    student = from_teacher(teacher_of("kac"))
    both = networks(student, Critic(1.0, 0.0))
    of_both = sample(both, KAC, (20, 2), steps=2, seed=8)
    assert of_both.nfe == 2
    assert torch.equal(of_both.images, sample(student, KAC, (20, 2), steps=2, seed=8).images)


# --- training


def test_a_discriminator_corrects_what_the_pairs_have_wrong_and_loses_no_mode():
    """One step from the teacher's weights. The ends of the pairs are flat, as those of a poor
    teacher: the regression copies that, and real data show it."""
    path, teacher = KAC, teacher_of("kac")
    pairs = pairs_of(teacher, 2000)
    pairs.ends *= 0.85
    regression = GeneratedDistiller(path, [(1.0, PairsLoss(0.03))], intervals=1, pairs=pairs)
    student = finished(training_of(from_teacher(teacher), 120, 6e-3), regression.loss, 128)
    critic = {DISCRIMINATOR: {"lr": 2.0, "betas": (0.0, 0.99)}}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        others = {DISCRIMINATOR: Discriminator(1, 2)}
        both = StudentAndOthers(copy.deepcopy(student).requires_grad_(), others, critic)
    losses = [(0.3, PairsLoss(0.03)), (1.0, AdversarialLoss(path))]
    together = GeneratedDistiller(path, losses, intervals=1, pairs=pairs)
    trained = finished(training_of(both, 140, 3e-3, ema=0.97), together.loss, 128)
    points = {name: sample(model, path, (1000, 2), steps=1, seed=9).images
              for name, model in (("pairs", student), ("both", trained))}  # fmt: skip
    assert distance(points["both"]) < 0.3 * distance(points["pairs"])
    assert min(shares(points["both"])) > 0.1
