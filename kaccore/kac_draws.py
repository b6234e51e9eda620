"""Exact draws of the Kac process and its velocities in elementary functions: no table over (t, u),
no rejection.

With n >= 1 reversals and a random sign X/(ct) has the density (1 - x^2)^(k-1), k = ceil(n/2): that
of one coordinate of a point in the plane at the radius sqrt(1 - q^2), q^(2k-1) uniform in (0, 1).
Over the Poisson numbers n that sums to a distribution in closed form. With tau = a t (the mean
number of reversals), y = tau q and d = tau - y

    P(no reversal, or tau q < y) = exp(-tau) (1 + sinh y + tau (cosh y - 1)/y) = exp(-d) (1 + d
    k(y)) k(y) = (1 - exp(-y))^2 / (2 y)

so d solves d - log(1 + d k(tau - d)) = e for an exponential variable e (e >= tau: no reversal), and
with a uniform angle phi the draw is X = (c/a) cos(phi) sqrt(d (2 tau - d)). In d nothing cancels,
whether tau is 1e-9 or 1e9. The velocity there is a X / (tau + w(z)), w(z) = z I0(z)/I1(z), z^2 =
y^2 + d (2 tau - d) sin(phi)^2. Our own derivation; the tests hold it against draws of reversals one
by one, and against Bessel functions."""

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Generator, Tensor

Generators = Generator | list[Generator] | None
STEPS = {
    torch.float32: 2,
    torch.float64: 3,
}  # the error is then below 1e-8 and 3e-16 of d, at any tau
FLOOR = {
    torch.float32: 1e-9,
    torch.float64: 1e-30,
}  # smaller numbers are not divided by: their squares would overflow
BLOCK = 1 << 17  # elements worked on at a time: what fits the cache
NODES = 4096  # of w's table: linear interpolation is then within 2e-8 of it
TINY = 1e-30


class KacMotion(NamedTuple):
    """Displacements, the velocities there, and which particles never reversed."""

    x: Tensor
    velocity: Tensor
    straight: Tensor


def draw(
    damping: float,
    speed: float,
    t: Tensor,
    shape: Sequence[int],
    generator: Generators = None,
    *,
    moving: bool,
) -> KacMotion:
    """Draws of `shape` at times `t` >= 0, which broadcast against it; float32 or float64, as `t`.
    Unless `moving` the velocities are left out: x is in their place. With a list of generators
    each row is drawn by its own."""
    # drawn in single precision a uniform variable has no numbers below 6e-8, and the law would end
    # there
    wide = torch.float32 if t.device.type == "mps" else torch.float64
    e = _uniform(shape, wide, t.device, generator).to(t.dtype).log_().neg_()
    phi = _uniform(shape, t.dtype, t.device, generator).mul_(2 * math.pi)
    rows = max(1, BLOCK * len(e) // max(e.numel(), 1)) if e.ndim and t.device.type == "cpu" else 0
    t = t.reshape(
        (1,) * (e.ndim - t.ndim) + t.shape
    )  # as small as it is: most steps then have one time for an image
    t = t.expand(len(e), *t.shape[1:]) if e.ndim else t
    blocks = zip(*(w.split(rows) if rows else [w] for w in (t, e, phi)), strict=True)
    drawn = [_drawn(damping, speed, *block, moving=moving) for block in blocks]
    return (
        drawn[0]
        if len(drawn) == 1
        else KacMotion(*(torch.cat(parts) for parts in zip(*drawn, strict=True)))
    )


def resistance(squared: Tensor) -> Tensor:
    """w(z) = z I0(z)/I1(z) of z^2 >= 0: 2 at 0, z + 1/2 far away. Within 3e-7 of it in float32."""
    if squared.dtype == torch.float64:
        return _exact(squared.sqrt())
    nodes, steps = _table(squared.device)
    place = torch.rsqrt(1 + squared.flatten() / 4).mul_(NODES)
    index = place.int()
    rest = nodes.index_select(0, index).addcmul_(place.frac_(), steps.index_select(0, index))
    return (squared + 2.25).sqrt_().add_(rest.view(squared.shape))


def _uniform(
    shape: Sequence[int], dtype: torch.dtype, device: torch.device, generator: Generators
) -> Tensor:
    if isinstance(generator, list):
        return torch.stack([_uniform(shape[1:], dtype, device, each) for each in generator])
    return torch.rand(tuple(shape), dtype=dtype, generator=generator, device=device)


def _drawn(
    damping: float, speed: float, t: Tensor, e: Tensor, phi: Tensor, *, moving: bool
) -> KacMotion:
    tau, edge = damping * t, speed * t
    d = depth(tau, e)
    radius = (2 * tau - d).mul_(d)
    straight = e >= tau
    cos = torch.cos(phi)
    # torch.lerp by 0 or 1 is exact, and faster than torch.where
    ahead = torch.sign(cos)
    never = straight.to(t.dtype)
    position = cos * radius.sqrt()
    x = torch.clamp(position * (speed / damping), -edge, edge).lerp_(ahead * edge, never)
    if not moving:
        return KacMotion(x, x, straight)
    squared = (tau - d).square_().add_(radius.mul_(1 - cos.square()))
    velocity = position.mul_(speed).div_(resistance(squared).add_(tau))
    return KacMotion(x, velocity.lerp_(ahead.mul_(speed).mul_(t > 0), never), straight)


def depth(tau: Tensor, e: Tensor) -> Tensor:
    """d with d - log(1 + d k(tau - d)) = e; tau where e is beyond."""
    left = (tau - e).clamp_min_(0)
    # the equation at small y, and a bound at large
    d = tau - torch.minimum(torch.exp(left).sub_(1).div_(1 + tau / 2), left)
    for step in range(1, STEPS[tau.dtype] + 1):
        d = _closer(d, tau, e, last=step == STEPS[tau.dtype])
    return torch.minimum(d, tau)


def _closer(d: Tensor, tau: Tensor, e: Tensor, *, last: bool) -> Tensor:
    """One step of Newton's for d - log(1 + d k) = e, k = a^2/(2 y) with a = 1 - exp(-y); the last
    is Halley's. In place, since memory is what it takes its time for: the form on paper is in the
    test."""
    least = FLOOR[d.dtype]
    y = (tau - d).clamp_min_(0)
    # of a small a nothing is needed
    a = torch.exp(-y).neg_().add_(1)
    half = (2 * y).clamp_min_(least).reciprocal_()
    k = (a * a).mul_(half)
    kd = k * d
    b = a.clamp_min_(least).reciprocal_().sub_(1)  # exp(-y)/a
    change = (b - half).mul_(2)  # k'/k
    more = kd + 1
    excess = (d - torch.log(more)).sub_(e)
    slope = torch.addcmul(k, kd, change, value=-1).div_(more).neg_().add_(1)
    if not last:
        return d.sub_(excess.div_(slope))
    # log1p and expm1 were seen to take eight times as long as log and exp
    step = excess.add_((more - 1).sub_(kd).div_(more)).div_(slope)
    bend = (
        torch.sub(b, half, alpha=2)
        .square_()
        .sub_(b)
        .mul_(d)
        .sub_(change)
        .mul_(2)
        .mul_(k)
        .div_(more)
    )
    bend.sub_((slope - 1).square_()).mul_(step).div_(slope)
    return d.sub_(step.addcmul_(step, bend, value=-0.5))


def _exact(z: Tensor) -> Tensor:
    z = z.clamp_min(1e-200 if z.dtype == torch.float64 else TINY)
    return z * torch.special.i0e(z) / torch.special.i1e(z)


@lru_cache
def _table(device: torch.device) -> tuple[Tensor, Tensor]:
    """w(z) - sqrt(z^2 + 9/4) where 1/sqrt(1 + z^2/4) is 0, 1/NODES, ... 1, and the steps from there
    to the next."""
    place = torch.linspace(0, 1, NODES + 1, dtype=torch.float64)[1:]
    z = 2 * ((1 - place) * (1 + place)).sqrt() / place
    rest = torch.cat(
        [torch.tensor([0.5], dtype=torch.float64), _exact(z) - (z.square() + 2.25).sqrt()]
    )
    return rest.float().to(device), rest.diff(append=rest[-1:]).float().to(device)
