"""Time and label embeddings shared by the networks."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

TIME_SCALE = 1000.0  # t in [0, 1] is stretched before its sinusoids, which are spaced for step counts


def sinusoidal(t: Tensor, width: int) -> Tensor:
    """[cos(1000 t w_k), sin(1000 t w_k)], w_k from 1 down to 1e-4: (B,) -> (B, width), width even."""
    half = width // 2
    frequency = torch.exp(-math.log(10_000) / half * torch.arange(half, device=t.device, dtype=torch.float32))
    angle = TIME_SCALE * t.float()[:, None] * frequency
    return torch.cat([angle.cos(), angle.sin()], dim=1)


class ConditionEmbedding(nn.Module):
    """Embeds the time and, where `classes` > 0, a label: (t, labels) -> (B, width).

    A label of -1, or none at all, is the null label. Raises ValueError where labels come to an unlabelled network.
    """

    def __init__(self, channels: int, width: int, classes: int = 0) -> None:
        super().__init__()
        self.channels, self.classes = channels, classes
        self.hidden, self.out = nn.Linear(channels, width), nn.Linear(width, width)
        self.label = nn.Embedding(classes + 1, width) if classes else None

    def forward(self, t: Tensor, labels: Tensor | None = None) -> Tensor:
        emb = self.out(F.silu(self.hidden(sinusoidal(t, self.channels))))
        if self.label is None:
            if labels is not None:
                raise ValueError("labels were given to a network without classes")
            return emb
        if labels is None:
            labels = torch.full_like(t, -1, dtype=torch.long)
        return emb + self.label(torch.where(labels < 0, self.classes, labels))
