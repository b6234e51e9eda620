"""Flow matching: regress the path's conditional velocity (arXiv 2210.02747, eq. 9; arXiv 2506.20641, eq. 21)."""

import torch
from torch import Generator, Tensor

from kaccore.guidance import NULL_LABEL, Model
from kaccore.paths import Path


def flow_matching_loss(
    model: Model, path: Path, x0: Tensor, labels: Tensor | None = None, generator: Generator | None = None
) -> Tensor:
    """Mean of (model(x_t, t, labels) - u_t)^2 over a batch `x0` (B, ...) in [-1, 1], with t uniform on (0, 1]."""
    t = 1 - torch.rand(len(x0), generator=generator, device=x0.device)
    sample = path.sample(x0, t, generator)
    error = model(sample.x, t, labels) - sample.velocity
    return error.square().mean()


def drop_labels(labels: Tensor, probability: float, generator: Generator | None = None) -> Tensor:
    """`labels` (B,) with each replaced by the null label with `probability` in [0, 1], for guidance later."""
    dropped = torch.rand(labels.shape, generator=generator, device=labels.device) < probability
    return torch.where(dropped, NULL_LABEL, labels)
