"""Discriminators of noised images: how likely a point x_t of a path comes from real data."""

import torch.nn.functional as F
from torch import Tensor, nn

from kaccore.models.embeddings import ConditionEmbedding, per_image

SLOPE = 0.2  # of the leaky ReLU
SMALLEST = 2  # the size, in pixels, to which the convolutions reduce an image
HIDDEN = 128  # width of the last layer
TIME_CHANNELS = 64


class Discriminator(nn.Module):
    """`model(x, t, labels=None) -> (B,)`, larger for real data: x (B, C, H, W) float at times t (B,)
    in [0, 1] on the path, labels (B,) int64 or None.

    Convolutions of 3x3, of which every second one halves the size, rounded up, until `SMALLEST` is
    reached; each is scaled and shifted by an embedding of t. Then a layer of 128, and the projection on the label
    (arXiv 1802.05637). For images of one pixel, points in the plane, the convolutions are linear
    layers. `size` pixels a side; `channels` of the image; `width` of the convolutions, half of it in
    the first; `classes`, 0: no labels. It has no normalisation: a gradient penalty is of each image alone (arXiv
    2501.05441)."""

    def __init__(self, size: int, channels: int, *, width: int = 64, classes: int = 0) -> None:
        super().__init__()
        strides = _strides(size)
        kernel = 3 if size > 1 else 1
        widths = [max(1, width // 2)] + [width] * (len(strides) - 1)
        self.embed = ConditionEmbedding(TIME_CHANNELS, width)
        self.layers = nn.ModuleList()
        self.scale_shift = nn.ModuleList()
        for stride, out in zip(strides, widths, strict=True):
            self.layers.append(nn.Conv2d(channels, out, kernel, stride, padding=kernel // 2))
            self.scale_shift.append(nn.Linear(width, 2 * out))
            channels = out
        side = size
        for stride in strides:
            side = -(-side // stride)
        self.hidden = nn.Linear(channels * side**2, HIDDEN)
        self.leave = nn.Linear(HIDDEN, 1)
        self.label = nn.Embedding(classes, HIDDEN) if classes else None

    def forward(self, x: Tensor, t: Tensor, labels: Tensor | None = None) -> Tensor:
        h = x.reshape(*x.shape[:2], *(x.shape[2:] or (1, 1)))
        emb = F.silu(self.embed(per_image(t, x)))
        for layer, scale_shift in zip(self.layers, self.scale_shift, strict=True):
            scale, shift = scale_shift(emb)[:, :, None, None].chunk(2, dim=1)
            h = F.leaky_relu(layer(h) * (1 + scale) + shift, SLOPE)
        h = F.leaky_relu(self.hidden(h.flatten(1)), SLOPE)
        logits = self.leave(h)[:, 0]
        if self.label is None or labels is None:
            return logits
        return logits + (self.label(labels) * h).mean(1)


def _strides(size: int) -> list[int]:
    """The strides of the convolutions for images of `size` pixels."""
    if size == 1:
        return [1, 1, 1]
    strides = []
    while size > SMALLEST:
        strides += [1, 2]
        size = -(-size // 2)
    return strides or [1, 1]
