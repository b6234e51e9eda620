"""Exact draws of the Kac process and its velocities in elementary functions: no table over (t, u), no rejection.

With n >= 1 reversals and a random sign X/(ct) has the density (1 - x^2)^(k-1), k = ceil(n/2): that of one coordinate of
a point in the plane at the radius sqrt(1 - q^2), q^(2k-1) uniform in (0, 1). Over the Poisson numbers n that sums to a
distribution in closed form. With tau = a t (the mean number of reversals), y = tau q and d = tau - y

    P(no reversal, or tau q < y) = exp(-tau) (1 + sinh y + tau (cosh y - 1)/y) = exp(-d) (1 + d k(y))
    k(y) = (1 - exp(-y))^2 / (2 y)

so d solves d - log(1 + d k(tau - d)) = e for an exponential variable e (e >= tau: no reversal), and with a uniform
angle phi the draw is X = (c/a) cos(phi) sqrt(d (2 tau - d)). In d nothing cancels, whether tau is 1e-9 or 1e9. The
velocity there is a X / (tau + w(z)), w(z) = z I0(z)/I1(z), z^2 = y^2 + d (2 tau - d) sin(phi)^2. Our own derivation;
the tests hold it against draws of reversals one by one, and against Bessel functions.
"""

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Generator, Tensor

STEPS = {torch.float32: 3, torch.float64: 4}  # of Newton's: the error is then below 2e-12 and 3e-16 of d, at any tau
BLOCK = 1 << 17  # elements worked on at a time: what fits the cache
NODES = 4096  # of w's table: linear interpolation is then within 2e-8 of it
TINY = 1e-30


class Drawn(NamedTuple):
    """`position` is X a/c, in [-tau, tau]; `squared` is z^2; `straight` tells who never reversed."""

    position: Tensor
    squared: Tensor
    straight: Tensor


def draw(tau: Tensor, shape: Sequence[int], generator: Generator | None = None) -> Drawn:
    """Draws of `shape` at `tau` >= 0, which broadcasts against it; float32 or float64, as `tau`."""
    # of single precision an exponential variable would end at 17, and the law with it
    wide = torch.float32 if tau.device.type == "mps" else torch.float64
    e = torch.rand(tuple(shape), dtype=wide, generator=generator, device=tau.device).log_().neg_().to(tau.dtype)
    phi = torch.rand(tuple(shape), dtype=tau.dtype, generator=generator, device=tau.device).mul_(2 * math.pi)
    tau = tau.expand(tuple(shape))
    rows = max(1, BLOCK * len(e) // max(e.numel(), 1)) if e.ndim and tau.device.type == "cpu" else 0
    if not rows or rows >= len(e):
        return _drawn(tau, e, phi)
    blocks = zip(*(whole.split(rows) for whole in (tau, e, phi)), strict=True)
    return Drawn(*(torch.cat(parts) for parts in zip(*(_drawn(*block) for block in blocks), strict=True)))


def resistance(squared: Tensor) -> Tensor:
    """w(z) = z I0(z)/I1(z) of z^2 >= 0: 2 at 0, z + 1/2 far away. Within 3e-7 of it in float32."""
    if squared.dtype == torch.float64:
        return _exact(squared.sqrt())
    nodes, steps = _table(squared.device)
    place = torch.rsqrt(1 + squared / 4).mul_(NODES)
    index = place.long().clamp_max_(NODES - 1)
    return (squared + 2.25).sqrt_().add_(nodes.take(index)).addcmul_(place - index, steps.take(index))


def _drawn(tau: Tensor, e: Tensor, phi: Tensor) -> Drawn:
    left = (tau - e).clamp_min_(0)
    # the equation at small y, and a bound at large
    d = tau - torch.minimum(torch.expm1(left).div_(1 + tau / 2), left)
    for _ in range(STEPS[tau.dtype]):
        d = _newton(d, tau, e)
    y, squared = tau - d, (2 * tau - d).mul_(d)
    straight, cos = e >= tau, torch.cos(phi)
    position = torch.where(straight, torch.copysign(tau, cos), cos * squared.sqrt())
    return Drawn(position, (y * y).add_(squared.mul_(torch.sin(phi).square_())), straight)


def _newton(d: Tensor, tau: Tensor, e: Tensor) -> Tensor:
    """One step for d - log(1 + d k) = e, k = a^2/(2 y) with a = 1 - exp(-y), kept in [e, tau]. In place, since memory
    is what it takes its time for: its form on paper is in the test."""
    y = tau - d
    a, half = torch.expm1(-y).neg_(), (2 * y).clamp_min_(TINY).reciprocal_()
    k = (a * a).mul_(half)
    kd = k * d
    change = a.clamp_min_(TINY).reciprocal_().sub_(1).sub_(half).mul_(2)  # k'/k = 2 exp(-y)/a - 1/y
    rise = k.addcmul_(kd, change, value=-1)  # of d k
    excess = (d - torch.log1p(kd)).sub_(e)
    slope = rise.div_(kd.add_(1)).neg_().add_(1)
    return torch.clamp(d.sub_(excess.div_(slope)), torch.minimum(e, tau), tau)


def _exact(z: Tensor) -> Tensor:
    z = z.clamp_min(1e-200 if z.dtype == torch.float64 else TINY)
    return z * torch.special.i0e(z) / torch.special.i1e(z)


@lru_cache
def _table(device: torch.device) -> tuple[Tensor, Tensor]:
    """w(z) - sqrt(z^2 + 9/4) where 1/sqrt(1 + z^2/4) is 0, 1/NODES, ... 1, and its steps."""
    place = torch.linspace(0, 1, NODES + 1, dtype=torch.float64)[1:]
    z = 2 * ((1 - place) * (1 + place)).sqrt() / place
    rest = torch.cat([torch.tensor([0.5], dtype=torch.float64), _exact(z) - (z.square() + 2.25).sqrt()])
    return rest[:-1].float().to(device), rest.diff().float().to(device)
