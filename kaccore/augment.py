"""Augmentation of training images that does not leak into samples: the network is told how each
image was changed.

The pipeline for small data sets of Karras et al. (arXiv 2206.00364, appendix F.2), restated. Each
change but the first is made with probability p on its own; what the network is told is zero for a
change that was not made, and in sampling:

    change                          drawn                            what the network is told (9 numbers)
    left to right                   a ~ {0, 1}, always               a
    top to bottom                   a ~ {0, 1}                       a
    scale by 2^(0.2 a)              a ~ N(0, 1)                      a
    rotation by a                   a ~ U(-pi, pi)                   cos a - 1, sin a
    stretch by 2^(0.2 a) along b,   a ~ N(0, 1), b ~ U(-pi, pi)      a cos 2b, a sin 2b
      2^(-0.2 a) across             (in half of the cases b = 0)
    shift by a/8, b/8 of the size   a, b ~ N(0, 1)                   a, b

Our choices: one bicubic resampling with reflected borders, values kept in [-1, 1], and only of the
images that are moved (the published code passes all through wavelet filters); and 2b, where the
published b tells the same of a stretch and of its opposite (-a along b + pi). A network takes what
it is told with `augment_dim=9`:

    x0, told = augment(x0, generator)
    loss = flow_matching_loss(functools.partial(model, augment=told), path, x0, labels, generator)
"""

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

AUGMENT_DIM = 9
OCTAVES = 0.2  # standard deviation of scales and stretches
SHIFT = 1 / 8  # standard deviation of shifts, in image sizes


class Augmented(NamedTuple):
    """Changed `images` (B, C, H, H) in [-1, 1] and what was done to each, `labels` (B, 9)
    float32."""

    images: Tensor
    labels: Tensor


def flip(images: Tensor, generator: Generator | None = None) -> Tensor:
    """Each of `images` (B, C, H, W) left to right with probability 1/2."""
    return _where(
        torch.rand(len(images), generator=generator, device=images.device) < 0.5,
        images.flip(3),
        images,
    )


def augment(images: Tensor, generator: Generator | None = None, p: float = 0.12) -> Augmented:
    """Change a batch (B, C, H, H) in [-1, 1]; with p = 0 nothing is changed, not even left to
    right.

    All is drawn from `generator`, on the images' device. Raises ValueError where p is outside [0,
    1] or the images are not square."""
    if not 0 <= p <= 1:
        raise ValueError(f"p = {p!r}: expected a probability")
    if images.ndim != 4 or images.shape[2] != images.shape[3]:
        raise ValueError(f"images of shape {tuple(images.shape)}: expected (B, C, H, H)")
    count, device = len(images), images.device
    uniform = torch.rand(10, count, generator=generator, device=device)
    made = (uniform[:5] < p).float()
    left_right, top_bottom = (uniform[5:7] < 0.5).float() * torch.stack(
        [torch.full_like(made[0], p > 0), made[0]]
    )
    angle, axis = (2 * uniform[7:9] - 1) * math.pi
    axis = torch.where(uniform[9] < 0.5, axis, 0.0)
    scale, stretch, *shift = (
        torch.randn(4, count, generator=generator, device=device) * made[[1, 3, 4, 4]]
    )
    angle = angle * made[2]

    images = _where(left_right > 0, images.flip(3), images)
    images = _where(top_bottom > 0, images.flip(2), images)
    stretched = rotation(axis) @ torch.diag_embed(
        torch.stack([stretch, -stretch], 1).mul(OCTAVES).exp2()
    )
    linear = stretched @ rotation(angle - axis) * scale.mul(OCTAVES).exp2()[:, None, None]
    moved = made[1:].amax(0) > 0
    images = _where(moved, warp(images, linear, SHIFT * torch.stack(shift, 1)), images)
    stretches = [stretch * (2 * axis).cos(), stretch * (2 * axis).sin()]
    told = [left_right, top_bottom, scale, angle.cos() - 1, angle.sin(), *stretches, *shift]
    return Augmented(images, torch.stack(told, 1))


def warp(images: Tensor, linear: Tensor, shift: Tensor) -> Tensor:
    """Move what is at x from an image's centre to linear x + shift: images (B, C, H, H) in [-1,
    1], bicubic.

    `linear` is (B, 2, 2) and `shift` (B, 2), in image sizes; a point is (right, down). What comes
    in from beyond the border is the image reflected there."""
    inverse = torch.linalg.inv(linear)
    shift = 2 * shift  # a grid reaches from -1 to 1
    back = torch.cat([inverse, -inverse @ shift[:, :, None]], dim=2)
    grid = F.affine_grid(back, list(images.shape), align_corners=False)
    warped = F.grid_sample(
        images, grid, mode="bicubic", padding_mode="reflection", align_corners=False
    )
    return warped.clamp(-1, 1)


def rotation(angle: Tensor) -> Tensor:
    """Rotations from right towards down: (B,) -> (B, 2, 2)."""
    cos, sin = angle.cos(), angle.sin()
    return torch.stack([cos, -sin, sin, cos], 1).unflatten(1, (2, 2))


def _where(condition: Tensor, images: Tensor, others: Tensor) -> Tensor:
    return torch.where(condition[:, None, None, None], images, others)
