"""The usual sampler of the Kac process, written for comparison: an inverse-CDF table over (t, u).

For one damping and one speed the quantiles of K_t are tabulated at `TIMES` times and `LEVELS`
levels in [0, 1], and interpolated bilinearly; velocities are computed in double precision from the
scaled Bessel functions. The sizes are those of the published code of arXiv 2506.20641."""

import torch
from torch import Generator, Tensor

from kaccore.process import KacProcess

TIMES, LEVELS = 50_001, 4_097
ROWS = 512  # tabulated at a time


class TableSampler:
    """Draws of `process` for times in [0, 1]."""

    def __init__(self, process: KacProcess) -> None:
        self.process = process
        self.quantiles = torch.cat(
            [self._rows(t) for t in torch.linspace(0, 1, TIMES).double().split(ROWS)]
        )

    def sample(
        self, t: Tensor, generator: Generator | None = None, pixels: int = 3072
    ) -> tuple[Tensor, Tensor]:
        """Displacements and velocities (B, pixels) at times `t` (B,) in [0, 1]."""
        u = torch.rand(len(t), pixels, generator=generator) * (LEVELS - 1)
        row = (t * (TIMES - 1)).long().clamp_max(TIMES - 2)
        column = u.long().clamp_max(LEVELS - 2)
        down, right = (t * (TIMES - 1) - row)[:, None], u - column
        start = row[:, None] * LEVELS + column
        corners = [self.quantiles.take(start + shift) for shift in (0, 1, LEVELS, LEVELS + 1)]
        above, below = (a + right * (b - a) for a, b in (corners[:2], corners[2:]))
        x = (above + down * (below - above)).float()
        return x, self._velocity(x.double(), t[:, None].double()).float()

    def _velocity(self, x: Tensor, t: Tensor) -> Tensor:
        """x / (t + (r/c) I0(beta r)/I1(beta r)), with its limits at x = 0 and on the light cone."""
        a, c = self.process.damping, self.process.speed
        r = ((c * t).square() - x.square()).clamp_min(0).sqrt()
        z = (a / c * r).clamp_min(1e-12)
        v = x / (t + z / a * torch.special.i0e(z) / torch.special.i1e(z))
        return torch.where(r > 0, v, c * torch.sign(x))

    def _rows(self, t: Tensor) -> Tensor:
        """The quantiles at some times: the inverse of the cdf, which is computed by the trapezoidal
        rule on as many displacements."""
        a, c = self.process.damping, self.process.speed
        x = torch.linspace(-1, 1, LEVELS, dtype=torch.float64) * c * t[:, None]
        density = self.process.density(x, t)
        steps = (density[:, 1:] + density[:, :-1]) / 2 * (2 * c / (LEVELS - 1)) * t[:, None]
        cdf = (
            torch.cat([torch.zeros_like(x[:, :1]), steps.cumsum(1)], 1)
            + torch.exp(-a * t)[:, None] / 2
        )
        levels = torch.linspace(0, 1, LEVELS, dtype=torch.float64).expand_as(cdf).contiguous()
        right = torch.searchsorted(cdf, levels).clamp(1, LEVELS - 1)
        low, high = cdf.gather(1, right - 1), cdf.gather(1, right)
        share = ((levels - low) / (high - low).clamp_min(1e-300)).clamp(0, 1)
        left = x.gather(1, right - 1)
        return left + share * (x.gather(1, right) - left)
