"""Straight lines to one-dimensional noise that is fitted to the data: each coordinate of the noise has
the law that this coordinate has in the data, and all are independent.

    x_t = (1 - t) x_0 + t y,   u = y - x_0;     y_i = Q_i(U_i) + sqrt(3) smooth (2 V_i - 1)

with the quantile function Q_i of coordinate i in the data, and U_i, V_i uniform on [0, 1]. Source:
arXiv 2510.12636, which learns the quantile functions together with the velocity, so that noise lies
near to the data. Among laws with independent coordinates the data's own marginals are the nearest in
each coordinate, and they need no training: here they are fitted once. The uniform part, of standard
deviation `smooth`, gives coordinates that hardly vary some noise as well. The noise is bounded, and
so is the velocity."""

import math
from collections.abc import Sequence

import torch
from torch import Generator, Tensor

from kaccore.paths import Batches, PathSample, in_order
from kaccore.tensors import default_device, left_broadcast

LARGEST = 4096  # images from which quantiles are fitted, evenly spaced through the data


class QuantilePath:
    """The path whose noise has the `quantiles` (K, ...) of each coordinate, at the levels 0, 1/(K-1),
    ..., 1 and linear between them. Raises ValueError for K < 2, quantiles that fall, or smooth < 0."""

    def __init__(self, quantiles: Tensor, smooth: float = 0.1) -> None:
        if quantiles.ndim < 2 or len(quantiles) < 2:
            raise ValueError(
                f"quantiles of shape {tuple(quantiles.shape)}: expected (K, ...), K >= 2"
            )
        if bool((quantiles.diff(dim=0) < 0).any()):
            raise ValueError("expected quantiles that do not fall")
        if not (math.isfinite(smooth) and smooth >= 0):
            raise ValueError(f"smooth = {smooth!r}: expected a finite number >= 0")
        self.quantiles = quantiles.float()
        self.smooth = float(smooth)
        low, high = self.quantiles[:-1].double(), self.quantiles[1:].double()
        mean = (low + high).mean(0) / 2
        square = (low.square() + low * high + high.square()).mean(0) / 3
        self.mean = mean.float()
        self.variance = ((square - mean.square()).clamp_min(0) + smooth**2).float()

    @classmethod
    def fit(cls, data: Batches, knots: int = 65, smooth: float = 0.1) -> "QuantilePath":
        """The path with the quantiles of `data` at `knots` levels, from at most LARGEST images.
        Raises ValueError for knots < 2 or no data."""
        if knots < 2 or not len(data):
            raise ValueError(f"knots = {knots}, {len(data)} images: expected at least 2 and 1")
        index = torch.linspace(0, len(data) - 1, min(len(data), LARGEST)).round().long()
        ordered = data.batch(index).float().sort(0).values
        at = torch.linspace(0, len(ordered) - 1, knots)
        low = at.floor().long().clamp(max=max(0, len(ordered) - 2))
        high = (low + 1).clamp(max=len(ordered) - 1)
        share = left_broadcast(at - low, ordered[low])
        return cls(ordered[low] + share * (ordered[high] - ordered[low]), smooth)

    def sample(self, x0: Tensor, t: Tensor, generator: Generator | None = None) -> PathSample:
        """See `Path.sample`. Raises ValueError for data of another shape."""
        t = left_broadcast(t, x0)
        y = self._noise(x0.shape, generator, x0.device).to(x0.dtype)
        return PathSample((1 - t) * x0 + t * y, y - x0)

    def prior(self, shape: Sequence[int], generator: Generator | None = None) -> Tensor:
        """See `Path.prior`. Raises ValueError for a shape that is not of the data."""
        return self._noise(tuple(shape), generator, default_device(shape, generator))

    def renoise(
        self, x: Tensor, s: Tensor, t: Tensor, generator: Generator | None = None
    ) -> Tensor:
        """See `Path.renoise`; exact from s = 0. From s > 0 the mean and the variance of each
        coordinate are exact and the law is not."""
        s, t = in_order(x, s, t)
        ratio = (1 - t) / (1 - s)
        mean = self.mean.to(x)
        fresh = self._noise(x.shape, generator, x.device).to(x.dtype) - mean
        missing = (t.square() - (ratio * s).square()).clamp_min(0).sqrt()
        return ratio * x + (t - ratio * s) * mean + missing * fresh

    def speed_limit(self, radius: float) -> float:
        """radius + the largest abs(noise): lines are straight."""
        return radius + float(self.quantiles.abs().max()) + math.sqrt(3) * self.smooth

    def _noise(
        self, shape: Sequence[int], generator: Generator | None, device: torch.device
    ) -> Tensor:
        if tuple(shape[1:]) != tuple(self.quantiles.shape[1:]):
            of_data = tuple(self.quantiles.shape[1:])
            raise ValueError(f"shape {tuple(shape)}: expected (B, ...) of coordinates {of_data}")
        table = self.quantiles.to(device)
        at = torch.rand(tuple(shape), generator=generator, device=device) * (len(table) - 1)
        low = at.floor().long().clamp(max=len(table) - 2)
        below, above = table.gather(0, low), table.gather(0, low + 1)
        y = below + (at - low) * (above - below)
        spread = 2 * torch.rand(tuple(shape), generator=generator, device=device) - 1
        return y + math.sqrt(3) * self.smooth * spread
