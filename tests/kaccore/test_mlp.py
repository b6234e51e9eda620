import pytest
import torch
from exact_fields import PointData
from torch import nn

from kaccore.losses import flow_matching_loss
from kaccore.models import MLP
from kaccore.models.mlp import waves
from kaccore.paths import KacPath
from kaccore.process import KacProcess
from kaccore.tensors import generator_for
from kaccore.training import Settings, Training


def randomised(*args, **options) -> MLP:
    """A network whose every weight counts: fresh ones start as the zero field."""
    torch.manual_seed(0)
    model = MLP(*args, **options)
    for weight in model.parameters():
        nn.init.normal_(weight, std=0.2)
    return model


def inputs(*shape: int, count: int = 5) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(count, *shape, generator=generator), torch.rand(count, generator=generator)


def test_it_learns_the_exact_field_of_a_kac_flow_in_the_plane():
    """Data at the corners of a square: each coordinate's exact field is that of two points on a
    line."""
    path, corners = KacPath(KacProcess(25.0, 2.0)), torch.tensor([-0.6, 0.6])

    def batch(count: int, purpose: str, step: int = 0) -> tuple[torch.Tensor, torch.Generator]:
        generator = generator_for(0, purpose, step)
        return corners[torch.randint(2, (count, 2), generator=generator)], generator

    def loss(model: nn.Module, step: int) -> torch.Tensor:
        x0, generator = batch(256, "training", step)
        return flow_matching_loss(model, path, x0, generator=generator)

    torch.manual_seed(0)
    training = Training(MLP(2, channels=64), Settings(steps=400, lr=4e-3, ema=0.98))
    list(training.run(loss))

    x0, generator = batch(5000, "test")
    t = 0.05 + 0.95 * torch.rand(len(x0), generator=generator)
    x = path.sample(x0, t, generator).x
    exact = PointData(path, corners.tolist())(x, t)
    with torch.no_grad():
        error = training.ema.model(x, t) - exact
    assert error.square().mean() < 0.1 * exact.square().mean()


def test_waves_turn_by_octaves_from_an_eighth_of_a_turn_at_one_half():
    x = torch.tensor([[0.0, 1.0], [4.0, -2.0]])
    cos, sin = waves(x).unflatten(1, (2, 2, 4)).unbind(1)
    expected = torch.tensor([[1.0, 1.0, 1.0, 1.0], [0.5**0.5, 0.0, -1.0, 1.0]])
    assert torch.allclose(cos[0], expected, atol=1e-6)
    assert torch.allclose(sin[0], torch.tensor([[0.0] * 4, [0.5**0.5, 1.0, 0.0, 0.0]]), atol=1e-6)
    assert torch.allclose(
        cos[1], torch.tensor([[-1.0, 1.0, 1.0, 1.0], [0.0, -1.0, 1.0, 1.0]]), atol=1e-5
    )


def test_an_image_is_the_point_of_its_pixels():
    model = randomised(12)
    x, t = inputs(3, 2, 2)
    assert torch.equal(model(x, t), model(x.flatten(1), t).reshape(x.shape))
    assert model(x, t).std() > 0


def test_a_fresh_network_is_the_zero_field_and_later_every_weight_is_used():
    assert (MLP(2)(*inputs(2)) == 0).all()
    model = randomised(2, classes=2)
    x, t = inputs(2)
    model(x, t, torch.tensor([0, 1, -1, 0, 1])).square().sum().backward()
    assert not [
        name for name, weight in model.named_parameters() if not weight.grad.abs().max() > 0
    ]


def test_a_point_of_another_dimension_is_refused():
    with pytest.raises(
        ValueError, match=r"x of shape \(5, 3\): expected \(B, ...\) with 2 numbers each"
    ):
        MLP(2)(*inputs(3))


@pytest.mark.parametrize("name", ["dimension", "channels", "depth"])
def test_a_network_that_cannot_be_built_is_refused(name):
    with pytest.raises(ValueError, match=f"{name} = 0: expected at least 1"):
        MLP(**{"dimension": 2, name: 0})
