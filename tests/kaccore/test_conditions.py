"""What every network is told beside the image: its time, a label, a second time, an
augmentation."""

import itertools

import pytest
import torch
from torch import nn

from kaccore.models import MLP, DiT, UNet

NETWORKS = {
    "unet": lambda **options: UNet(8, 1, channels=8, multipliers=(1, 2), blocks=1, **options),
    "dit": lambda **options: DiT(8, 1, channels=24, depth=2, heads=3, **options),
    "mlp": lambda **options: MLP(64, channels=32, **options),
}
IMAGE_NETWORKS = [NETWORKS["unet"], NETWORKS["dit"]]
every_network = pytest.mark.parametrize("make", NETWORKS.values(), ids=NETWORKS)
every_image_network = pytest.mark.parametrize("make", IMAGE_NETWORKS, ids=["unet", "dit"])


def randomised(model: nn.Module, seed: int = 0) -> nn.Module:
    """Every weight counts: fresh networks start as the zero field."""
    torch.manual_seed(seed)
    for weight in model.parameters():
        nn.init.normal_(weight, std=0.2)
    return model.eval()


def inputs(count: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(count, 1, 8, 8, generator=generator), torch.rand(count, generator=generator)


def added(one: nn.Module, other: nn.Module) -> set[str]:
    return set(other.state_dict()) - set(one.state_dict())


# --- one time and labels
# --------------------------------------------------------------------------------------------


@every_network
def test_a_label_of_minus_one_and_no_label_are_the_null_label_and_others_are_not(make):
    model, (x, t) = randomised(make(classes=3)), inputs(1)
    fields = [model(x, t, torch.tensor([label])) for label in (-1, 0, 1, 2)]
    assert torch.equal(fields[0], model(x, t))
    for one, other in itertools.combinations(fields, 2):
        assert (one - other).abs().max() > 1e-3


@every_network
def test_one_time_for_all_is_that_time_for_each_and_another_time_another_field(make):
    model, (x, _) = randomised(make()), inputs()
    assert torch.equal(model(x, torch.tensor(0.3)), model(x, torch.full((3,), 0.3)))
    assert (model(x, torch.tensor(0.3)) - model(x, torch.tensor(0.301))).abs().max() > 1e-3


@every_network
def test_labels_for_a_network_without_classes_are_refused(make):
    with pytest.raises(ValueError, match="without classes"):
        make()(*inputs(), torch.zeros(3, dtype=torch.int64))


# --- two times
# ------------------------------------------------------------------------------------------------------


@every_network
def test_a_network_of_two_times_starts_as_the_network_of_one_whose_weights_it_loads(make):
    one, two = randomised(make(classes=2)), make(classes=2, two_times=True).eval()
    result = two.load_state_dict(one.state_dict(), strict=False)
    assert not result.unexpected_keys and set(result.missing_keys) == added(one, two)
    assert all(key.startswith("embed.end_") for key in result.missing_keys) and result.missing_keys
    (x, t), labels = inputs(), torch.tensor([0, 1, -1])
    for end in (torch.zeros(3), t, torch.tensor([0.1, 0.2, 0.3])):
        assert torch.equal(two(x, t, labels, end), one(x, t, labels))


@every_network
def test_a_network_of_two_times_tells_where_a_jump_ends(make):
    model, (x, t) = randomised(make(two_times=True)), inputs()
    near, far = model(x, t, end=0.5), model(x, t, end=0.501)
    assert (near - far).abs().max() > 1e-3
    assert torch.equal(near, model(x, t, end=torch.tensor(0.5)))
    assert torch.equal(near, model(x, t, end=torch.full((3,), 0.5)))
    mixed = model(x, t, end=torch.tensor([0.5, 0.501, 0.5]))
    assert torch.allclose(mixed[[0, 2]], near[[0, 2]], atol=1e-4) and torch.allclose(
        mixed[1], far[1], atol=1e-4
    )


@every_network
def test_the_second_time_learns_from_the_first_step(make):
    model, (x, t) = make(two_times=True), inputs()
    for weight in model.parameters():
        if weight is not model.embed.end_out.weight and weight is not model.embed.end_out.bias:
            nn.init.normal_(weight, std=0.2)
    model(x, t, end=0.2).square().sum().backward()
    assert model.embed.end_out.weight.grad.abs().max() > 0


@every_network
def test_a_second_time_is_asked_of_networks_of_two_and_refused_by_those_of_one(make):
    with pytest.raises(ValueError, match="network of one time"):
        make()(*inputs(), end=0.0)
    with pytest.raises(ValueError, match="needs end"):
        make(two_times=True)(*inputs())


# --- augmentation
# ---------------------------------------------------------------------------------------------------


@every_image_network
def test_a_network_that_knows_augmentation_starts_as_the_one_that_does_not(make):
    plain, knowing = randomised(make()), make(augment_dim=9).eval()
    result = knowing.load_state_dict(plain.state_dict(), strict=False)
    assert result.missing_keys == ["embed.augment.weight"] and not result.unexpected_keys
    x, t = inputs()
    assert torch.equal(knowing(x, t, augment=torch.randn(3, 9)), plain(x, t))


@every_image_network
def test_no_augmentation_is_that_of_zeros(make):
    model, (x, t) = randomised(make(augment_dim=9)), inputs()
    assert torch.equal(model(x, t), model(x, t, augment=torch.zeros(3, 9)))
    assert (model(x, t) - model(x, t, augment=torch.eye(9)[:3])).abs().amax(
        dim=(1, 2, 3)
    ).min() > 1e-3


@every_image_network
@pytest.mark.parametrize("dim, given", [(0, 9), (9, 8)])
def test_an_augmentation_of_another_kind_is_refused(make, dim, given):
    with pytest.raises(
        ValueError, match=rf"augment of shape \(3, {given}\): expected \(B, {dim}\)"
    ):
        make(augment_dim=dim)(*inputs(), augment=torch.zeros(3, given))
