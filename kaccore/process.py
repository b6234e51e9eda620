"""The Kac process: a particle that moves at speed c and reverses at the events of a Poisson process
of rate a.

    a  damping (reversal rate, 1/time)      c  speed (length/time)      t  time >= 0      x  displacement
    u_tt + 2 a u_t = c^2 u_xx               (its law; the telegrapher's or damped wave equation)
    r = sqrt((c t)^2 - x^2)                 z = a r / c                 q = I1(z) / (z I0(z)),  q(0) = 1/2

I0, I1 are modified Bessel functions, always exponentially scaled (i0e, i1e), so exp(a t) is never
formed. Sources: Kac 1974; DistillKac, arXiv 2509.21513; Kac flows, arXiv 2506.20641."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from kaccore import kac_draws
from kaccore.kac_draws import Generators, KacMotion
from kaccore.tensors import default_device, left_broadcast

QUADRATURE_NODES = 96  # Gauss-Legendre nodes of the cdf: errors near 1e-14 for 40 e-folds of decay
TAIL_EFOLDS = 40.0  # exp(-40) is below float64's resolution of the tail that it is added to


class KacSample(NamedTuple):
    """Displacements `x` and, for each, whether the particle never reversed: `straight` means abs(x)
    = c t."""

    x: Tensor
    straight: Tensor


class KacProcess:
    """The one-dimensional Kac process started at 0; images use one independent process per pixel
    and channel.

    `damping` a > 0 is the reversal rate, `speed` c > 0 the speed. Raises ValueError where either is
    not a positive finite number. As a, c -> infinity at fixed c^2/a = s^2 the process becomes
    Brownian motion of variance s^2 t."""

    def __init__(self, damping: float, speed: float) -> None:
        for name, value in (("damping", damping), ("speed", speed)):
            if not (math.isfinite(value) and value > 0):
                raise ValueError(f"{name} = {value!r}: expected a positive finite number")
        self.damping = float(damping)
        self.speed = float(speed)

    def __repr__(self) -> str:
        return f"KacProcess(damping={self.damping:g}, speed={self.speed:g})"

    def sample(
        self, t: Tensor | float, shape: Sequence[int], generator: Generators = None
    ) -> KacSample:
        """Draw x ~ K_t exactly, atoms included (`kac_draws`).

        `t` is a scalar or aligned with `shape` from the left. The dtype is `t`'s (float32 for a
        number), the device `t`'s, or the generator's; a list of `shape[0]` generators draws each
        row as its own would alone. Returns a `KacSample` of `shape`. Raises ValueError for t < 0 or
        NaN; on a GPU, which would have to be waited for, such draws are NaN."""
        motion = self._draw(t, shape, generator)
        return KacSample(motion.x, motion.straight)

    def sample_with_velocity(
        self, t: Tensor | float, shape: Sequence[int], generator: Generators = None
    ) -> KacMotion:
        """Draw as `sample` does, the same x, and know each velocity E[dX/dt | X_t = x] for little
        more.

        They are within 1e-6 of `velocity` (of c, in float32) at an eighth of its cost.
        """
        return self._draw(t, shape, generator, moving=True)

    def _draw(
        self, t: Tensor | float, shape: Sequence[int], generator: Generators, moving: bool = False
    ) -> KacMotion:
        one = generator[0] if isinstance(generator, list) else generator
        device = t.device if isinstance(t, Tensor) else default_device(shape, one)
        dtype = t.dtype if isinstance(t, Tensor) and t.is_floating_point() else torch.float32
        t = left_broadcast(t, torch.empty(tuple(shape), dtype=dtype, device=device))
        if device.type == "cpu" and not bool((t >= 0).all()):
            raise ValueError("the Kac process needs times t >= 0")
        wide = t.to(torch.promote_types(dtype, torch.float32))
        if device.type != "cpu":
            wide = torch.where(wide >= 0, wide, math.nan)
        x, velocity, straight = kac_draws.draw(
            self.damping, self.speed, wide, shape, generator, moving=moving
        )
        return KacMotion(x.to(dtype), velocity.to(dtype), straight)

    def velocity(self, x: Tensor, t: Tensor | float, straight: Tensor | None = None) -> Tensor:
        """E[dX/dt | X_t = x] = a q x / (1 + a t q); on the light cone it is sign(x) c. Shape and
        dtype of `x`.

        `straight` says which particles never reversed (as `sample` returns it). Without it only
        those with abs(x) >= c t exactly count as such: just inside the cone the velocity is x/(t +
        2/a), not c."""
        wide_x, wide_t, z = self._inside(x, t)
        q = _bessel_ratio(z)
        v = self.damping * q * wide_x / (1 + self.damping * wide_t * q)
        if straight is None:
            straight = x.abs() >= self.speed * left_broadcast(t, x)
        return torch.where(straight, self.speed * torch.sign(wide_x), v).to(x.dtype)

    def density(self, x: Tensor, t: Tensor | float) -> Tensor:
        """The continuous part's density, exp(-a t)/2 [beta I0(z) + beta c t I1(z)/r] with beta =
        a/c; 0 outside the light cone. It integrates to 1 - exp(-a t); the rest is in the two atoms
        (`atom`). Unit: 1/length."""
        wide_x, wide_t, z = self._inside(x, t)
        tau, ct = self.damping * wide_t, self.speed * wide_t
        # -a t + z, without the cancellation
        denominator = self.speed * (ct + self.speed / self.damping * z)
        exponent = -self.damping * wide_x.square() / denominator.clamp_min(_tiny(z))
        scaled = torch.special.i0e(z) * (1 + tau * _bessel_ratio(z))
        p = self.damping / (2 * self.speed) * torch.exp(exponent) * scaled
        outside = x.abs() > self.speed * left_broadcast(t, x)
        return torch.where(outside, 0.0, p).to(x.dtype)

    def cdf(self, x: Tensor, t: Tensor | float) -> Tensor:
        """P(X_t <= x), atoms included, by Gauss-Legendre quadrature of the density in the angle x =
        c t sin(theta).

        The lower tail is integrated itself, not as a difference from 1/2, so that it keeps its
        relative accuracy."""
        wide_x, wide_t, _ = self._inside(x, t)
        ct, tau = self.speed * wide_t, self.damping * wide_t
        safe_ct = ct.clamp_min(_tiny(ct))
        start = torch.asin((wide_x.abs() / safe_ct).clamp_max(1.0))
        # log density falls like tau (cos(theta) - cos(start)): beyond TAIL_EFOLDS nothing is left
        # to add
        reach = torch.cos(start) - TAIL_EFOLDS / tau.clamp_min(_tiny(tau))
        end = torch.acos(reach.clamp(0.0, 1.0))
        tail = self.atom(wide_t) / 2 + self._mass_between(start, end, wide_t)
        below = torch.where(wide_x < 0, tail, torch.where(wide_x > 0, 1 - tail, 0.5))
        limit = self.speed * left_broadcast(t, x)
        return torch.where(x >= limit, 1.0, torch.where(x < -limit, 0.0, below)).to(x.dtype)

    def variance(self, t: Tensor | float) -> Tensor:
        """Var X_t = (c^2/a) (t - (1 - exp(-2 a t))/(2 a)); unit length^2, shape of `t`."""
        t = _floating(t)
        w = 2 * self.damping * t.double()
        # small w: (e^-w - 1 + w)/w^2 by its series, where the closed form cancels
        series = torch.zeros_like(w)
        for j in reversed(range(18)):
            series = 1 / math.factorial(j + 2) - w.clamp_max(1.0) * series
        closed = (torch.expm1(-w) + w) / w.square().clamp_min(_tiny(w))
        share = torch.where(w < 1, series, closed)
        return (2 * (self.speed * t.double()).square() * share).to(t.dtype)

    def atom(self, t: Tensor | float) -> Tensor:
        """The mass exp(-a t) of the two atoms together, half of it at each of x = +-c t; shape of
        `t`."""
        return torch.exp(-self.damping * _floating(t))

    def _inside(self, x: Tensor, t: Tensor | float) -> tuple[Tensor, Tensor, Tensor]:
        """`x`, `t` in double precision and z = a r / c, with r^2 = (ct - |x|)(ct + |x|) kept from
        cancelling."""
        if not x.is_floating_point():
            raise ValueError(f"displacements must be floating point, got {x.dtype}")
        wide = torch.float32 if x.device.type == "mps" else torch.float64
        wide_x = x.to(wide)
        wide_t = left_broadcast(t, wide_x)
        ct, distance = self.speed * wide_t, wide_x.abs()
        r = ((ct - distance).clamp_min(0) * (ct + distance)).sqrt()
        return wide_x, wide_t, self.damping * r / self.speed

    def _mass_between(self, start: Tensor, end: Tensor, t: Tensor) -> Tensor:
        """The density's integral over x = c t sin(theta), theta from `start` to `end`."""
        nodes, weights = _gauss_legendre(QUADRATURE_NODES)
        nodes, weights = (
            torch.as_tensor(v, dtype=start.dtype, device=start.device) for v in (nodes, weights)
        )
        half = (end - start)[..., None] / 2
        theta = start[..., None] + half * (1 + nodes)
        tau = (self.damping * t).expand_as(start)[..., None]
        z = tau * torch.cos(theta)
        exponent = -tau * torch.sin(theta).square() / (1 + torch.cos(theta))
        integrand = (
            torch.exp(exponent)
            * torch.special.i0e(z)
            * (1 + tau * _bessel_ratio(z))
            * torch.cos(theta)
        )
        return (half * weights * integrand * tau / 2).sum(-1)


def _bessel_ratio(z: Tensor) -> Tensor:
    """q(z) = I1(z)/(z I0(z)), smooth at 0 with q(0) = 1/2: i1e is linear there, so any tiny z gives
    the limit."""
    z = z.clamp_min(_tiny(z))
    return torch.special.i1e(z) / (z * torch.special.i0e(z))


def _tiny(like: Tensor) -> float:
    """A number far below anything that matters and far above the smallest normal one."""
    return 1e-30 if like.dtype == torch.float32 else 1e-200


def _floating(t: Tensor | float) -> Tensor:
    t = torch.as_tensor(t)
    return t if t.is_floating_point() else t.to(torch.get_default_dtype())


def _gauss_legendre(count: int) -> tuple[Tensor, Tensor]:
    """Nodes and weights on [-1, 1] by Golub and Welsch: the eigenvalues of the Jacobi matrix."""
    k = torch.arange(1, count, dtype=torch.float64)
    off = k / (4 * k.square() - 1).sqrt()
    nodes, vectors = torch.linalg.eigh(torch.diag(off, 1) + torch.diag(off, -1))
    return nodes, 2 * vectors[0].square()
