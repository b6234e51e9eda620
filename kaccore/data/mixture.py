"""A test case in two dimensions: a 3x3 grid of narrow Gaussians, where every quantity is known
exactly.

This module has the points, their density and their classes. The likelihood that a model's flow gives to
points is `kaccore.diagnostics.likelihood`, W2 of samples to the data is
`kaccore.metrics.transport.wasserstein2`."""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from kaccore.tensors import generator_for

AXIS = torch.tensor([-2 / 3, 0.0, 2 / 3])
CENTRES = torch.cartesian_prod(AXIS, AXIS)  # (9, 2), row k is the centre of class k
WIDTH = 0.05  # standard deviation of each mode: thirteen of them from mode to mode


class LabelledPoints(NamedTuple):
    """`points` (N, 2) float32 and `labels` (N,) int64 in [0, 9), the number of each point's
    mode."""

    points: Tensor
    labels: Tensor


def grid_of_gaussians(count: int, seed: int) -> LabelledPoints:
    """Draw `count` points: for each a mode, all nine equally likely, and a normal deviation of WIDTH
    from its centre. Within [-1, 1] up to six standard deviations. Equal (seed, count) give equal
    points."""
    generator = generator_for(seed, "grid of gaussians")
    labels = torch.randint(len(CENTRES), (count,), generator=generator)
    return LabelledPoints(
        CENTRES[labels] + WIDTH * torch.randn(count, 2, generator=generator), labels
    )


def log_density(points: Tensor, labels: Tensor | None = None) -> Tensor:
    """The log density at `points` (N, 2): of the mixture, or for each point of the mode that `labels`
    (N,) gives."""
    distances = (points[:, None] - CENTRES.to(points)).square().sum(2)  # (N, 9)
    normal = -distances / (2 * WIDTH**2) - math.log(2 * math.pi * WIDTH**2)
    if labels is not None:
        return normal.gather(1, labels[:, None])[:, 0]
    return normal.logsumexp(1) - math.log(len(CENTRES))
