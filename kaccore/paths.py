"""Paths from data (t = 0) to noise (t = 1): where x_t is, and how fast it moves.

    x_t = f(t) x_0 + noise_t          u_t = f'(t) x_0 + d noise_t / dt        (the regression target)

One interface for the Kac path and its two controls: `sample(x0, t)` and `prior(shape)`.
Sources: arXiv 2509.21513 (section 3), arXiv 2506.20641 (section 4), arXiv 2210.02747 (flow matching).
"""

import math
from collections.abc import Sequence
from typing import NamedTuple, Protocol

import torch
from torch import Generator, Tensor

from kaccore.process import KacProcess
from kaccore.schedules import CLOCKS, SIGNALS, ScheduleValue, linear_signal, lookup
from kaccore.tensors import default_device, left_broadcast


class PathSample(NamedTuple):
    """A point `x` of the path and its `velocity`, both shaped as the data."""

    x: Tensor
    velocity: Tensor


class Path(Protocol):
    """What losses, distillers and samplers need of a path."""

    def sample(self, x0: Tensor, t: Tensor, generator: Generator | None = None) -> PathSample:
        """Draw x_t and its velocity given data `x0` (B, ...) and times `t`, a scalar or (B,), in [0, 1]."""
        ...

    def prior(self, shape: Sequence[int], generator: Generator | None = None) -> Tensor:
        """Draw x_1, float32 of `shape`."""
        ...

    def speed_limit(self, radius: float) -> float:
        """A bound on abs(velocity) per coordinate for data in [-radius, radius]; infinite where there is none."""
        ...


class KacPath:
    """x_t = f(t) x_0 + K_{g(t)}, u_t = f'(t) x_0 + g'(t) v(K, g(t)); the prior is K_1, drawn from the process itself.

    `signal` names f (linear, exponential), `clock` names g (linear, quadratic). With the exponential signal x_1
    keeps exp(-1) x_0, so the prior needs `data`: a float tensor (N, ...) from which it draws x_0 at random; its
    samples then start from noised data and not from noise alone. Raises ValueError for unknown names.
    """

    def __init__(
        self, process: KacProcess, signal: str = "linear", clock: str = "linear", data: Tensor | None = None
    ) -> None:
        self.process, self.data = process, data
        self.signal = lookup(SIGNALS, signal, "signal")
        self.clock = lookup(CLOCKS, clock, "clock")

    def sample(self, x0: Tensor, t: Tensor, generator: Generator | None = None) -> PathSample:
        """See `Path.sample`."""
        t = left_broadcast(t, x0)
        f, g = self.signal(t), self.clock(t)
        noise = self.process.sample(g.value, x0.shape, generator)
        v = self.process.velocity(noise.x, g.value, noise.straight)
        return PathSample(f.value * x0 + noise.x, f.derivative * x0 + g.derivative * v)

    def prior(self, shape: Sequence[int], generator: Generator | None = None) -> Tensor:
        """See `Path.prior`. Raises ValueError for the exponential signal without `data`."""
        one = torch.ones((), device=default_device(shape, generator))
        noise = self.process.sample(self.clock(one).value, shape, generator).x
        kept = float(self.signal(one).value)
        if kept == 0:
            return noise
        if self.data is None:
            raise ValueError(f"this signal keeps {kept:.3f} x_0 at t = 1: give KacPath(data=...) to draw the prior")
        index = torch.randint(len(self.data), (shape[0],), generator=generator, device=noise.device)
        return kept * self.data.to(noise.device)[index] + noise

    def speed_limit(self, radius: float) -> float:
        """max abs(f') R + max g' c: the light cone of the unguided field (arXiv 2509.21513, section 3)."""
        t = torch.linspace(0, 1, 257, dtype=torch.float64)
        slope_f, slope_g = self.signal(t).derivative.abs().max(), self.clock(t).derivative.abs().max()
        return float(slope_f * radius + slope_g * self.process.speed)


class DiffusionPath:
    """Square-root noise, the control whose velocity is unbounded as t -> 0.

    schedule "sqrt": x_t = (1-t) x_0 + width sqrt(t) eps, the limit of the Kac path as damping, speed -> infinity at
    speed^2/damping = width^2. schedule "vp": x_t = alpha x_0 + width sqrt(1 - alpha^2) eps, variance preserving for
    data of standard deviation `width`, with log alpha = -(beta_min t + (beta_max - beta_min) t^2/2)/2 of Song et al.
    (arXiv 2011.13456), beta in [0.1, 20]. Here x_1 keeps alpha(1) = 0.0066 of the data, which the prior leaves out,
    as that paper does. Raises ValueError for an unknown schedule or width <= 0.
    """

    def __init__(self, schedule: str = "sqrt", width: float = 1.0) -> None:
        if schedule not in ("sqrt", "vp"):
            raise ValueError(f"schedule = {schedule!r}: expected sqrt or vp")
        self.schedule, self.width = schedule, _positive(width)

    def sample(self, x0: Tensor, t: Tensor, generator: Generator | None = None) -> PathSample:
        """See `Path.sample`; t = 0 itself has no finite velocity, so it counts as the smallest t of float32."""
        t = left_broadcast(t, x0).clamp_min(2.0**-24)
        f, sigma = self._coefficients(t)
        eps = torch.randn(x0.shape, generator=generator, device=x0.device, dtype=x0.dtype) * self.width
        return PathSample(f.value * x0 + sigma.value * eps, f.derivative * x0 + sigma.derivative * eps)

    def prior(self, shape: Sequence[int], generator: Generator | None = None) -> Tensor:
        """See `Path.prior`: normal with standard deviation `width`."""
        return self.width * torch.randn(tuple(shape), generator=generator, device=default_device(shape, generator))

    def speed_limit(self, radius: float) -> float:
        """No bound: the noise's velocity grows like 1/sqrt(t)."""
        return math.inf

    def _coefficients(self, t: Tensor) -> tuple[ScheduleValue, ScheduleValue]:
        if self.schedule == "sqrt":
            root = t.sqrt()
            return linear_signal(t), ScheduleValue(root, 1 / (2 * root))
        beta_min, beta_max = 0.1, 20.0
        log_alpha = -(beta_min * t + (beta_max - beta_min) * t.square() / 2) / 2
        rate = -(beta_min + (beta_max - beta_min) * t) / 2  # d log alpha / dt
        alpha, sigma = log_alpha.exp(), (-torch.expm1(2 * log_alpha)).sqrt()
        return ScheduleValue(alpha, rate * alpha), ScheduleValue(sigma, -rate * alpha.square() / sigma)


class FlowMatchingPath:
    """Straight lines x_t = (1-t) x_0 + t width eps, u = width eps - x_0: the control with bounded energy.

    Source: arXiv 2210.02747. Raises ValueError for width <= 0.
    """

    def __init__(self, width: float = 1.0) -> None:
        self.width = _positive(width)

    def sample(self, x0: Tensor, t: Tensor, generator: Generator | None = None) -> PathSample:
        """See `Path.sample`."""
        t = left_broadcast(t, x0)
        eps = torch.randn(x0.shape, generator=generator, device=x0.device, dtype=x0.dtype) * self.width
        return PathSample((1 - t) * x0 + t * eps, eps - x0)

    def prior(self, shape: Sequence[int], generator: Generator | None = None) -> Tensor:
        """See `Path.prior`: normal with standard deviation `width`."""
        return self.width * torch.randn(tuple(shape), generator=generator, device=default_device(shape, generator))

    def speed_limit(self, radius: float) -> float:
        """No bound: a normal variable has none."""
        return math.inf


def _positive(width: float) -> float:
    if not (math.isfinite(width) and width > 0):
        raise ValueError(f"width = {width!r}: expected a positive finite number")
    return float(width)
