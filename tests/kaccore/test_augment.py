import math
from functools import partial

import pytest
import scipy.stats
import torch

from kaccore.augment import AUGMENT_DIM, augment, flip, rotation, warp
from kaccore.losses import flow_matching_loss
from kaccore.models import UNet
from kaccore.paths import FlowMatchingPath


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def noise(count: int, size: int = 8) -> torch.Tensor:
    return 2 * torch.rand(count, 3, size, size, generator=seeded(9)) - 1


def coordinates(size: int) -> torch.Tensor:
    """An image of two channels that says where each pixel lies, right and down of the centre, in
    image sizes."""
    line = (torch.arange(size) + 0.5) / size - 0.5
    return torch.stack([line.expand(size, size), line[:, None].expand(size, size)])


def within(share: float, expected: float, count: int) -> bool:
    """Within four standard errors of a share of `count`."""
    return abs(share - expected) < 4 * math.sqrt(expected * (1 - expected) / count)


# --- which changes are made
# -----------------------------------------------------------------------------------------


def test_with_probability_zero_every_image_stays_bit_for_bit():
    images = noise(200)
    result = augment(images, seeded(), p=0.0)
    assert torch.equal(result.images, images)
    assert result.labels.shape == (200, AUGMENT_DIM) and (result.labels == 0).all()


@pytest.mark.parametrize("p", [0.12, 0.5, 1.0])
def test_each_change_is_made_as_often_as_it_should_be_and_on_its_own(p):
    count = 20_000
    labels = augment(torch.zeros(count, 1, 2, 2), seeded(1), p).labels
    assert within(labels[:, 0].mean().item(), 0.5, count) and within(
        labels[:, 1].mean().item(), p / 2, count
    )
    changes = [labels[:, group].abs().amax(1) > 0 for group in ([2], [3, 4], [5, 6], [7, 8])]
    for change in changes:
        assert within(change.float().mean().item(), p, count) if p < 1 else change.all()
    together = (changes[0] & changes[1] & changes[2] & changes[3]).float().mean().item()
    assert within(together, p**4, count) if p < 1 else together == 1


def test_what_is_drawn_has_the_published_distributions():
    labels = augment(torch.zeros(5000, 1, 2, 2), seeded(2), p=1.0).labels.double()
    scale, cos, sin, right, down = labels[:, [2, 3, 4, 7, 8]].unbind(1)
    for normal in scale, right, down:
        assert scipy.stats.kstest(normal, "norm").pvalue > 1e-3
    angle = torch.atan2(sin, cos + 1)
    assert torch.allclose((cos + 1).square() + sin.square(), torch.ones_like(cos), atol=1e-5)
    assert scipy.stats.kstest(angle, "uniform", args=(-math.pi, 2 * math.pi)).pvalue > 1e-3
    along, across = labels[:, 5:7].unbind(1)
    assert within((across == 0).double().mean().item(), 0.5, 5000)
    assert scipy.stats.kstest(torch.hypot(along, across), "halfnorm").pvalue > 1e-3


def test_the_same_generator_gives_the_same_images_and_another_others():
    images = noise(50)
    one, again, other = (augment(images, seeded(seed), p=0.5) for seed in (3, 3, 4))
    assert torch.equal(one.images, again.images) and torch.equal(one.labels, again.labels)
    assert not torch.equal(one.images, other.images)


# --- what the changes do
# --------------------------------------------------------------------------------------------


def test_an_image_that_is_only_flipped_or_not_at_all_is_so_bit_for_bit():
    images = noise(2000)
    changed, labels = augment(images, seeded(5))
    still = (labels[:, 2:] == 0).all(dim=1)
    assert within(still.float().mean().item(), 0.88**4, 2000)
    for left_right in (0, 1):
        for top_bottom in (0, 1):
            which = still & (labels[:, 0] == left_right) & (labels[:, 1] == top_bottom)
            axes = [3] * left_right + [2] * top_bottom
            assert which.any() and torch.equal(changed[which], images[which].flip(axes))
    assert (changed[~still] != images[~still]).flatten(1).any(dim=1).all()


def test_the_labels_say_where_every_pixel_went():
    """Rebuilt from the labels alone: scaled, rotated, stretched and shifted, a pixel's own
    coordinates come along."""
    count, size = 200, 32
    where = coordinates(size)
    changed, labels = augment(where.expand(count, 2, size, size), seeded(6), p=1.0)
    checked = 0
    for image, told in zip(changed, labels, strict=True):
        mirror = torch.diag(1 - 2 * told[:2])
        cos, sin = told[3] + 1, told[4]
        turn = torch.stack([cos, -sin, sin, cos]).reshape(2, 2)
        stretch, axis = torch.hypot(told[5], told[6]), torch.atan2(told[6], told[5]) / 2
        along = torch.stack([axis.cos(), axis.sin()])
        projection = torch.outer(along, along)
        stretches = 2 ** (0.2 * stretch) * projection + 2 ** (-0.2 * stretch) * (
            torch.eye(2) - projection
        )
        linear = stretches @ turn @ mirror * 2 ** (0.2 * told[2])
        origin = torch.linalg.solve(linear, (where.flatten(1) - told[7:, None] / 8)).reshape(
            2, size, size
        )
        inside = origin.abs().amax(0) < 0.45  # further out the border is reflected
        assert torch.allclose(image[:, inside], origin[:, inside], atol=2e-3)
        checked += int(inside.sum())
    assert checked > 0.5 * count * size**2


def test_a_quarter_turn_and_a_shift_by_whole_pixels_are_exact():
    images = noise(4)
    turned = warp(images, rotation(torch.full((4,), math.pi / 2)), torch.zeros(4, 2))
    assert torch.allclose(turned, images.rot90(-1, dims=(2, 3)), atol=1e-4)
    shifted = warp(images, torch.eye(2).expand(4, 2, 2), torch.tensor([2 / 8, -1 / 8]).expand(4, 2))
    assert torch.allclose(shifted[:, :, :-1, 2:], images[:, :, 1:, :-2], atol=1e-4)
    assert torch.allclose(
        shifted[:, :, :-1, :2], images[:, :, 1:, :2].flip(3), atol=1e-4
    )  # reflected at the border


def test_values_stay_within_their_range():
    images = noise(300).sign()
    changed = augment(images, seeded(7), p=1.0).images
    assert changed.abs().max() == 1 and changed.std() > 0.5


def test_plain_flips_mirror_half_of_the_images():
    images = noise(2000)
    flipped = flip(images, seeded(8))
    mirrored = (flipped == images.flip(3)).flatten(1).all(dim=1)
    assert torch.equal(flipped[~mirrored], images[~mirrored]) and within(
        mirrored.float().mean().item(), 0.5, 2000
    )


# --- with a network, and faults
# -------------------------------------------------------------------------------------


def test_a_loss_tells_the_network_what_was_done():
    torch.manual_seed(0)
    model = UNet(8, 3, channels=8, multipliers=(1, 2), blocks=1, augment_dim=AUGMENT_DIM)
    torch.nn.init.normal_(model.leave.weight)
    for block in model.up:
        torch.nn.init.normal_(block.conv_out.weight)
    x0, told = augment(noise(16), seeded(1), p=0.5)
    flow_matching_loss(
        partial(model, augment=told), FlowMatchingPath(1.0), x0, generator=seeded(2)
    ).backward()
    assert (model.embed.augment.weight.grad.abs().amax(dim=0) > 0).all()


@pytest.mark.parametrize("p", [-0.1, 1.1, math.nan])
def test_a_probability_outside_its_range_is_refused(p):
    with pytest.raises(ValueError, match="expected a probability"):
        augment(noise(1), p=p)


@pytest.mark.parametrize("shape", [(2, 3, 8, 4), (3, 8, 8)])
def test_images_that_are_not_square_are_refused(shape):
    with pytest.raises(ValueError, match=r"expected \(B, C, H, H\)"):
        augment(torch.zeros(shape))
