"""A path on the circle: x_t = cos(pi t/2) x_0 + width sin(pi t/2) eps (arXiv 2303.08797, section 3).

In an experiment: `plugins: [trigonometric.py]` and `path: {kind: trigonometric}`."""

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Generator, Tensor

from kaccore.paths import Batches, PathSample
from kaccore.tensors import default_device, left_broadcast
from orchestrator.methods.path_kind import NormalPriorKind, PathKind


@PathKind.family.register
class Trigonometric(NormalPriorKind):
    """Trigonometric: keeps the variance of data whose standard deviation is the prior's width."""

    kind: Literal["trigonometric"] = "trigonometric"

    def build(self, data: Batches) -> "TrigonometricPath":
        return TrigonometricPath(self.prior_width)


class TrigonometricPath:
    """The prior is normal with standard deviation `width`. For the methods see `kaccore.paths.Path`."""

    def __init__(self, width: float = 1.0) -> None:
        self.width = width

    def sample(self, x0: Tensor, t: Tensor, generator: Generator | None = None) -> PathSample:
        angle = left_broadcast(t, x0) * (math.pi / 2)
        normal = torch.randn(x0.shape, generator=generator, device=x0.device, dtype=x0.dtype)
        noise = self.width * normal
        x = angle.cos() * x0 + angle.sin() * noise
        return PathSample(x, math.pi / 2 * (angle.cos() * noise - angle.sin() * x0))

    def prior(self, shape: Sequence[int], generator: Generator | None = None) -> Tensor:
        device = default_device(shape, generator)
        return self.width * torch.randn(tuple(shape), generator=generator, device=device)

    def renoise(
        self, x: Tensor, s: Tensor, t: Tensor, generator: Generator | None = None
    ) -> Tensor:
        a, b = (left_broadcast(time, x) * (math.pi / 2) for time in (s, t))
        ratio = b.cos() / a.cos()
        missing = (b.sin().square() - (ratio * a.sin()).square()).clamp_min(0).sqrt()
        normal = torch.randn(x.shape, generator=generator, device=x.device, dtype=x.dtype)
        return ratio * x + self.width * missing * normal

    def speed_limit(self, radius: float) -> float:
        return math.inf  # a normal variable has no bound
