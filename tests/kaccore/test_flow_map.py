"""The map of the flow between any two times."""

import pytest
import torch
from distill_cases import (
    PATHS,
    distance,
    finished,
    from_teacher,
    rotation,
    seeded,
    shares,
    spiral,
    teacher_of,
    training_of,
)  # fmt: skip
from torch.autograd import forward_ad

from kaccore.distill import FlowMapDistiller, sample_consistency
from kaccore.models import DiT, UNet
from kaccore.models.attention import plain_attention

X0 = torch.linspace(-1, 1, 400).reshape(200, 2)
KAC = PATHS["kac"]
FORMS = ("lagrangian", "mean")


def exact(x, t, labels=None, end=None):
    """The mean velocity of `spiral` from t down to end, whose jump is exp(-A (t - end)) x."""
    span = t - end
    landed = (rotation(span) @ x[:, :, None])[:, :, 0]
    mean = (x - landed) / torch.where(span < 1e-3, 1.0, span)[:, None]
    return torch.where((span < 1e-3)[:, None], spiral(x, t), mean)


class Linear(torch.nn.Module):
    """v = a x + b t + c end: of which all derivatives are known."""

    def __init__(self) -> None:
        super().__init__()
        self.weights = torch.nn.Parameter(torch.tensor([0.3, -0.7, 0.5]))

    def forward(self, x, t, labels=None, end=None):
        a, b, c = self.weights
        return a * x + (b * t + c * end)[:, None]


def drawn(seed: int, count: int, diagonal: float):
    """The times and points that the loss draws."""
    generator = seeded(seed)
    t = 1 - torch.rand(count, generator=generator)
    s = t * torch.rand(count, generator=generator)
    s = torch.where(torch.rand(count, generator=generator) < diagonal, t, s)
    x, u = KAC.sample(X0[:count], t, generator)
    return x, u, t, s


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("diagonal", [0.0, 0.5])
def test_the_exact_map_of_a_linear_teacher_has_no_loss(form, diagonal):
    loss = FlowMapDistiller(spiral, KAC, form=form, diagonal=diagonal).loss
    assert loss(exact, X0, generator=seeded()) < 1e-6
    lazy = lambda x, t, labels=None, end=None: spiral(x, t) + 0 * end[:, None]  # noqa: E731
    assert loss(lazy, X0, generator=seeded()) > 1e-3


def test_the_lagrangian_loss_and_its_gradient_are_those_written_out():
    student = Linear()
    loss = FlowMapDistiller(spiral, KAC, diagonal=0.25).loss(student, X0[:32], None, seeded(1))
    loss.backward()
    x, _, t, s = drawn(1, 32, 0.25)
    other = Linear()
    a, b, c = other.weights
    v = a * x + (b * t + c * s)[:, None]
    span = (t - s)[:, None]
    written = (v - span * c - spiral((x - span * v).detach(), s)).square().mean()
    written.backward()
    assert loss.item() == pytest.approx(written.item(), rel=1e-5)
    assert torch.allclose(student.weights.grad, other.weights.grad, atol=1e-6)


@pytest.mark.parametrize("taught", [True, False])
def test_the_mean_flow_loss_and_its_gradient_are_those_written_out(taught):
    student = Linear()
    distiller = FlowMapDistiller(spiral if taught else None, KAC, form="mean", diagonal=0.25)
    loss = distiller.loss(student, X0[:32], None, seeded(1))
    loss.backward()
    x, u, t, s = drawn(1, 32, 0.25)
    u = spiral(x, t) if taught else u
    other = Linear()
    a, b, c = other.weights
    v = a * x + (b * t + c * s)[:, None]
    target = (u - (t - s)[:, None] * (a * u + b)).detach()
    written = (v - target).square().mean()
    written.backward()
    assert loss.item() == pytest.approx(written.item(), rel=1e-5)
    assert torch.allclose(student.weights.grad, other.weights.grad, atol=1e-6)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kind", ["unet", "dit"])
def test_networks_with_attention_have_these_derivatives(kind, form):
    torch.manual_seed(0)
    common = {"channels": 16, "classes": 3, "two_times": True}
    if kind == "unet":
        network = UNet(8, 1, multipliers=(1,), blocks=1, attention=(8,), head_channels=8, **common)
    else:
        network = DiT(8, 1, depth=1, heads=2, patch=4, **common)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    x, labels = torch.randn(4, 1, 8, 8), torch.tensor([0, 1, 2, 0])
    teacher = lambda x, t, labels: 0.5 * x  # noqa: E731
    loss = FlowMapDistiller(teacher, KAC, form=form, diagonal=0.0).loss(
        network, x, labels, seeded(2)
    )
    loss.backward()
    assert all(p.grad is not None for p in network.parameters())
    # the derivative in the end time, by differences
    t, s, h = torch.full((4,), 0.8), torch.full((4,), 0.4), 1e-4
    with torch.no_grad():
        low, high = (network(x, t, labels, end=s + d) for d in (-h, h))
        with forward_ad.dual_level(), plain_attention():
            dual = network(x, t, labels, end=forward_ad.make_dual(s, torch.ones_like(s)))
            value, slope = forward_ad.unpack_dual(dual)
        assert torch.allclose(value, network(x, t, labels, end=s), atol=1e-5)
    assert torch.allclose(slope, (high - low) / (2 * h), atol=5e-2, rtol=2e-2)


def test_a_guided_teacher_is_asked_with_its_guidance_at_both_ends():
    seen = []

    def teacher(x, t, labels):
        seen.append(labels)
        return torch.zeros_like(x)

    labels = torch.tensor([0, 1, 2, 1])
    student = Linear()
    FlowMapDistiller(teacher, KAC, guidance=2.0).loss(student, X0[:4], labels, seeded())
    assert all(torch.equal(k, torch.cat([labels, torch.full((4,), -1)])) for k in seen)
    assert len(seen) == 2


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"form": "eulerian"}, "form = 'eulerian'"),
        ({"teacher": None}, "teacher = None"),
        ({"teacher": None, "form": "mean", "guidance": 1.5}, "teacher = None"),
        ({"diagonal": 1.5}, "diagonal = 1.5"),
    ],
)
def test_settings_that_mean_nothing_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        FlowMapDistiller(**{"teacher": spiral, "path": KAC, **settings})


@pytest.mark.parametrize("form", FORMS)
def test_one_student_is_near_to_the_data_in_one_jump_and_in_four(form):
    teacher = teacher_of("kac")
    student = from_teacher(teacher, two_times=True)
    trained = finished(
        training_of(student, 300, 8e-3, ema=0.97),
        FlowMapDistiller(teacher, KAC, form=form).loss,
        batch_size=128,
    )
    once = sample_consistency(teacher_jumps(teacher), KAC, (1000, 2), steps=1, seed=9).images
    for steps in (1, 4):
        points = sample_consistency(trained, KAC, (1000, 2), steps=steps, seed=9).images
        assert distance(points) < 0.1 * distance(once)
        assert min(shares(points)) > 0.1


def teacher_jumps(teacher):
    return lambda x, t, labels=None, end=None: teacher(x, t, labels)
