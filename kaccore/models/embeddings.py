"""Embeddings of what a network receives with the image: its time, a label, a second time, an
augmentation."""

import math
from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

TIME_SCALE = (
    1000.0  # t in [0, 1] is stretched before its sinusoids, which are spaced for step counts
)

Layer = TypeVar("Layer", nn.Linear, nn.Conv2d)


def sinusoidal(t: Tensor, width: int) -> Tensor:
    """[cos(1000 t w_k), sin(1000 t w_k)], w_k from 1 down to 1e-4: (B,) -> (B, width), width
    even."""
    half = width // 2
    frequency = torch.exp(
        -math.log(10_000) / half * torch.arange(half, device=t.device, dtype=torch.float32)
    )
    angle = TIME_SCALE * t.float()[:, None] * frequency
    return torch.cat([angle.cos(), angle.sin()], dim=1)


class ConditionEmbedding(nn.Module):
    """Embeds what the network is told: (t, labels, end, augment) -> (B, width).

    A sum of the time's embedding, of a label's where `classes` > 0 (-1, or none at all, is the null
    label), of the time `end` at which a jump ends where `two_times`, and of `augment` (B,
    augment_dim), the parameters of the augmentation, where `augment_dim` > 0 (none: zeros, an image
    as it is). `t` and `end` are (B,) in [0, 1].

    What `end` and `augment` add starts at zero: a network with them, loaded with the weights of one
    without (strict=False), is the same function at first. Raises ValueError if the network
    receives an input that it was not made for, or, with `two_times`, no end of the jump."""

    def __init__(
        self,
        channels: int,
        width: int,
        classes: int = 0,
        *,
        two_times: bool = False,
        augment_dim: int = 0,
    ) -> None:
        super().__init__()
        self.channels = channels
        self.classes = classes
        self.augment_dim = augment_dim
        self.hidden, self.out = nn.Linear(channels, width), nn.Linear(width, width)
        self.label = _table(classes + 1, width) if classes else None
        self.end_hidden = nn.Linear(channels, width) if two_times else None
        self.end_out = zeroed(nn.Linear(width, width)) if two_times else None
        self.augment = zeroed(nn.Linear(augment_dim, width, bias=False)) if augment_dim else None

    def forward(
        self,
        t: Tensor,
        labels: Tensor | None = None,
        end: Tensor | None = None,
        augment: Tensor | None = None,
    ) -> Tensor:
        self._check(labels, end, augment)
        emb = self.out(F.silu(self.hidden(sinusoidal(t, self.channels))))
        if self.label is not None:
            if labels is None:
                labels = torch.full_like(t, -1, dtype=torch.long)
            emb = emb + self.label(torch.where(labels < 0, self.classes, labels))
        if self.end_hidden is not None and self.end_out is not None and end is not None:
            emb = emb + self.end_out(F.silu(self.end_hidden(sinusoidal(end, self.channels))))
        if self.augment is not None:
            if augment is None:
                augment = t.new_zeros(t.shape[0], self.augment_dim)
            emb = emb + self.augment(augment)
        return emb

    def _check(self, labels: Tensor | None, end: Tensor | None, augment: Tensor | None) -> None:
        if labels is not None and self.label is None:
            raise ValueError("labels were given to a network without classes")
        if end is not None and self.end_out is None:
            raise ValueError(
                "end was given to a network of one time: it is made with two_times=True"
            )
        if end is None and self.end_out is not None:
            raise ValueError(
                "a network of two times needs end, where its jump ends (end = t: the velocity at t)"
            )
        if augment is not None and augment.shape[1:] != (self.augment_dim,):
            raise ValueError(
                f"augment of shape {tuple(augment.shape)}: expected (B, {self.augment_dim}) (augment_dim)"
            )


def per_image(t: Tensor | float, x: Tensor) -> Tensor:
    """A time for each image of `x`: a scalar, or (B,) as it is, -> (B,)."""
    t = torch.as_tensor(t, device=x.device)
    return (
        t.expand(x.shape[0]) if t.ndim == 0 else t
    )  # len(x) would fix the batch size of an exported model


def zeroed(layer: Layer) -> Layer:
    """`layer` with its weights and bias at zero, so that what it adds to starts as it was."""
    nn.init.zeros_(layer.weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer


def _table(count: int, width: int) -> nn.Embedding:
    """An embedding as torch makes it, except on the meta device, where its normal numbers would
    import the compiler: seconds for what is only counted."""
    weights = torch.empty(count, width)
    return nn.Embedding.from_pretrained(
        weights if weights.is_meta else weights.normal_(), freeze=False
    )
