"""Paths from data (t = 0) to noise (t = 1): where x_t is, and how fast it moves.

    x_t = f(t) x_0 + noise_t          u_t = f'(t) x_0 + d noise_t / dt        (the regression target)

One interface for the Kac path and its two controls: `sample(x0, t)` and `prior(shape)`. Sources:
arXiv 2509.21513 (section 3), arXiv 2506.20641 (section 4), arXiv 2210.02747 (flow matching)."""

import math
from collections.abc import Sequence
from typing import NamedTuple, Protocol

import torch
from torch import Generator, Tensor

from kaccore.kac_draws import Generators
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
        """Draw x_t and its velocity given data `x0` (B, ...) and times `t`, a scalar or (B,), in
        [0, 1]."""
        ...

    def prior(self, shape: Sequence[int], generator: Generator | None = None) -> Tensor:
        """Draw x_1, float32 of `shape`."""
        ...

    def renoise(
        self, x: Tensor, s: Tensor, t: Tensor, generator: Generator | None = None
    ) -> Tensor:
        """Take `x` (B, ...) at times `s` to later times `t`, scalars or (B,), with fresh noise:
        where x has the law of x_s given x_0, the result has that of x_t given x_0. Raises
        ValueError unless 0 <= s <= t <= 1 and s < 1."""
        ...

    def speed_limit(self, radius: float) -> float:
        """A bound on abs(velocity) per coordinate for data in [-radius, radius]; infinite where
        there is none."""
        ...


class Batches(Protocol):
    """A data set as a prior draws from it, such as `kaccore.data.ImageData`."""

    def __len__(self) -> int: ...

    def batch(self, index: Tensor) -> Tensor:
        """The data of the numbers `index` (B,) int64 as a model sees them: floats (B, ...)."""
        ...


class KacPath:
    """x_t = f(t) x_0 + K_{g(t)}, u_t = f'(t) x_0 + g'(t) v(K, g(t)); the prior is K_1, drawn from
    the process itself.

    `signal` names f (linear, exponential), `clock` names g (linear, quadratic). With the
    exponential signal x_1 keeps exp(-1) x_0, so the prior needs `data`: a float tensor (N, ...) or
    a data set, from which it draws x_0 at random; its samples then start from noised data and not
    from noise alone. Raises ValueError for unknown names."""

    def __init__(
        self,
        process: KacProcess,
        signal: str = "linear",
        clock: str = "linear",
        data: Tensor | Batches | None = None,
    ) -> None:
        self.process, self.data = process, data
        self.signal = lookup(SIGNALS, signal, "signal")
        self.clock = lookup(CLOCKS, clock, "clock")

    def sample(self, x0: Tensor, t: Tensor, generator: Generator | None = None) -> PathSample:
        """See `Path.sample`."""
        t = left_broadcast(t, x0)
        f, g = self.signal(t), self.clock(t)
        x, v, _ = self.process.sample_with_velocity(g.value, x0.shape, generator)
        return PathSample(f.value * x0 + x, f.derivative * x0 + g.derivative * v)

    def prior(self, shape: Sequence[int], generator: Generators = None) -> Tensor:
        """See `Path.prior`; a list of `shape[0]` generators draws each image as its own would
        alone. Raises ValueError for the exponential signal without `data`."""
        first = generator[0] if isinstance(generator, list) else generator
        one = torch.ones((), device=default_device(shape, first))
        noise = self.process.sample(self.clock(one).value, shape, generator).x
        kept = float(self.signal(one).value)
        if kept == 0:
            return noise
        if self.data is None:
            raise ValueError(
                f"this signal keeps {kept:.3f} x_0 at t = 1: give KacPath(data=...) to draw the prior"
            )
        each = generator if isinstance(generator, list) else [generator]
        count = shape[0] // len(each)
        index = torch.cat(
            [
                torch.randint(len(self.data), (count,), generator=g, device=noise.device)
                for g in each
            ]
        )
        x0 = (
            self.data[index.to(self.data.device)]
            if isinstance(self.data, Tensor)
            else self.data.batch(index)
        )
        return kept * x0.to(noise.device) + noise

    def renoise(self, x: Tensor, s: Tensor, t: Tensor, generator: Generators = None) -> Tensor:
        """See `Path.renoise`: x_t = r x + k K_{g(t)-g(s)}, r = f(t)/f(s), with k for the variance
        of K_{g(t)}. A list of `len(x)` generators draws each image as its own would alone.

        Exact from s = 0, where r x = f(t) x_0 and k = 1. From s > 0 the mean and the variance are
        exact and the law is not: x does not tell which way its particles move, so the fresh noise
        goes its own way, and the sum may leave the light cone. At damping 25 and speed 2 the cdf is
        off by less than 0.005 where g(t) > 0.25, which is little, and by up to 0.1 at g(t) = 0.06,
        where many particles have not reversed yet."""
        s, t = in_order(x, s, t)
        f = self.signal(s).value
        g = self.clock(s).value
        f_t = self.signal(t).value
        g_t = self.clock(t).value
        fresh = self.process.sample(g_t - g, x.shape, generator).x
        missing = self.process.variance(g_t) - (f_t / f).square() * self.process.variance(g)
        given = self.process.variance(g_t - g)
        k = (
            torch.where(g_t > g, missing / given, 0.0).clamp_min(0).sqrt()
        )  # s = t: nothing is missing or given
        return f_t / f * x + k * fresh

    def speed_limit(self, radius: float) -> float:
        """max abs(f') R + max g' c: the light cone of the unguided field (arXiv 2509.21513, section
        3)."""
        t = torch.linspace(0, 1, 257, dtype=torch.float64)
        slope_f = self.signal(t).derivative.abs().max()
        slope_g = self.clock(t).derivative.abs().max()
        return float(slope_f * radius + slope_g * self.process.speed)


class DiffusionPath:
    """Square-root noise, the control whose velocity is unbounded as t -> 0.

    schedule "sqrt": x_t = (1-t) x_0 + width sqrt(t) eps, the limit of the Kac path as damping,
    speed -> infinity at speed^2/damping = width^2. schedule "vp": x_t = alpha x_0 + width sqrt(1 -
    alpha^2) eps, variance preserving for data of standard deviation `width`, with log alpha =
    -(beta_min t + (beta_max - beta_min) t^2/2)/2 of Song et al. (arXiv 2011.13456), beta in [0.1,
    20]. Here x_1 keeps alpha(1) = 0.0066 of the data, which the prior leaves out, as that paper
    does. Raises ValueError for an unknown schedule or width <= 0."""

    def __init__(self, schedule: str = "sqrt", width: float = 1.0) -> None:
        if schedule not in ("sqrt", "vp"):
            raise ValueError(f"schedule = {schedule!r}: expected sqrt or vp")
        self.schedule, self.width = schedule, _positive(width)

    def sample(self, x0: Tensor, t: Tensor, generator: Generator | None = None) -> PathSample:
        """See `Path.sample`; t = 0 itself has no finite velocity, so it counts as the smallest t of
        float32."""
        t = left_broadcast(t, x0).clamp_min(2.0**-24)
        f, sigma = self._coefficients(t)
        eps = (
            torch.randn(x0.shape, generator=generator, device=x0.device, dtype=x0.dtype)
            * self.width
        )
        return PathSample(
            f.value * x0 + sigma.value * eps, f.derivative * x0 + sigma.derivative * eps
        )

    def prior(self, shape: Sequence[int], generator: Generator | None = None) -> Tensor:
        """See `Path.prior`: normal with standard deviation `width`."""
        return self.width * torch.randn(
            tuple(shape), generator=generator, device=default_device(shape, generator)
        )

    def renoise(
        self, x: Tensor, s: Tensor, t: Tensor, generator: Generator | None = None
    ) -> Tensor:
        """See `Path.renoise`; exact: what normal noise lacks in variance is made up by independent
        normal noise."""
        s, t = in_order(x, s, t)
        (f, sigma), (f_t, sigma_t) = (
            [v.value for v in self._coefficients(w.clamp_min(2.0**-24))] for w in (s, t)
        )
        return _add_normal(x, f_t / f, sigma, sigma_t, self.width, generator)

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
        return ScheduleValue(alpha, rate * alpha), ScheduleValue(
            sigma, -rate * alpha.square() / sigma
        )


class FlowMatchingPath:
    """Straight lines x_t = (1-t) x_0 + t width eps, u = width eps - x_0: the control with bounded
    energy.

    Source: arXiv 2210.02747. Raises ValueError for width <= 0.
    """

    def __init__(self, width: float = 1.0) -> None:
        self.width = _positive(width)

    def sample(self, x0: Tensor, t: Tensor, generator: Generator | None = None) -> PathSample:
        """See `Path.sample`."""
        t = left_broadcast(t, x0)
        eps = (
            torch.randn(x0.shape, generator=generator, device=x0.device, dtype=x0.dtype)
            * self.width
        )
        return PathSample((1 - t) * x0 + t * eps, eps - x0)

    def prior(self, shape: Sequence[int], generator: Generator | None = None) -> Tensor:
        """See `Path.prior`: normal with standard deviation `width`."""
        return self.width * torch.randn(
            tuple(shape), generator=generator, device=default_device(shape, generator)
        )

    def renoise(
        self, x: Tensor, s: Tensor, t: Tensor, generator: Generator | None = None
    ) -> Tensor:
        """See `Path.renoise`; exact: what normal noise lacks in variance is made up by independent
        normal noise."""
        s, t = in_order(x, s, t)
        return _add_normal(x, (1 - t) / (1 - s), s, t, self.width, generator)

    def speed_limit(self, radius: float) -> float:
        """No bound: a normal variable has none."""
        return math.inf


def in_order(x: Tensor, s: Tensor | float, t: Tensor | float) -> tuple[Tensor, Tensor]:
    """Both times shaped to broadcast against `x`; raises ValueError unless 0 <= s <= t <= 1 and s <
    1, which is not asked of a GPU: it would have to be waited for."""
    s, t = left_broadcast(s, x), left_broadcast(t, x)
    if x.device.type == "cpu" and not bool(((s >= 0) & (s <= t) & (s < 1) & (t <= 1)).all()):
        raise ValueError(
            f"s = {s.flatten().tolist()}, t = {t.flatten().tolist()}: expected 0 <= s <= t <= 1 and s < 1"
        )
    return s, t


def _add_normal(
    x: Tensor,
    ratio: Tensor,
    sigma: Tensor,
    sigma_t: Tensor,
    width: float,
    generator: Generator | None,
) -> Tensor:
    """ratio x + the normal noise that brings a deviation of ratio sigma width to sigma_t width."""
    missing = (sigma_t.square() - (ratio * sigma).square()).clamp_min(0).sqrt()
    eps = torch.randn(x.shape, generator=generator, device=x.device, dtype=x.dtype)
    return ratio * x + width * missing * eps


def _positive(width: float) -> float:
    if not (math.isfinite(width) and width > 0):
        raise ValueError(f"width = {width!r}: expected a positive finite number")
    return float(width)
