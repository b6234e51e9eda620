"""The exact likelihood that a model's flow gives to points of few dimensions.

A model here is any `model(x, t, labels=None)` on x (B, D), trained, sampled and distilled in the same
way as one on images."""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from kaccore.guidance import GuidedVelocity, Model
from kaccore.paths import DiffusionPath, FlowMatchingPath, KacPath, Path
from kaccore.sampling import evaluating
from kaccore.solvers import SOLVERS, uniform_times


class PriorDensity(NamedTuple):
    """A prior's `log_density` at some points, -inf where it is zero, and its `singular_mass`, which
    has no density."""

    log_density: Tensor
    singular_mass: float


def prior_log_density(path: Path, points: Tensor) -> PriorDensity:
    """The density of `path.prior` at `points` (N, D), of independent coordinates: (N,) float64.

    A coordinate of a Kac prior is at +-c with probability exp(-a) together, so that 1 - (1 -
    exp(-a))^D of the prior is on lines and corners and has no density: that is `singular_mass`,
    and the density integrates to the rest. It is zero outside the light cone, abs(x) > c. Raises
    ValueError for a Kac path whose prior contains data, and for paths that are not this package's
    own."""
    x = points.detach().double()
    if isinstance(path, KacPath):
        one = torch.ones((), dtype=torch.float64, device=x.device)
        if float(path.signal(one).value) != 0:
            raise ValueError(
                "the prior of this signal contains data and has no density in closed form; use linear"
            )
        time = path.clock(one).value
        smooth = 1 - float(path.process.atom(time))
        return PriorDensity(path.process.density(x, time).log().sum(1), 1 - smooth ** x.shape[1])
    if isinstance(path, DiffusionPath | FlowMatchingPath):
        normal = -x.square() / (2 * path.width**2) - math.log(2 * math.pi * path.width**2) / 2
        return PriorDensity(normal.sum(1), 0.0)
    raise ValueError(f"the prior density of {type(path).__name__} is not known")


class FlowLikelihood(NamedTuple):
    """The likelihood a model's flow gives to points.

    log_density    (N,) float64, in nats: log p_1(x_1) + integral of div u over t in [0, 1]. -inf for a point whose
                   trajectory starts at noise the prior cannot draw: the model cannot generate it
    noise          (N, D), x_1, where those trajectories start
    singular_mass  the share of the model's samples on curves, where no density says how likely they are (images of the
                   Kac prior's atoms); the density integrates to the rest. 3e-11 at damping 25, 0.1 at damping 3
    """

    log_density: Tensor
    noise: Tensor
    singular_mass: float


def log_likelihood(
    model: Model,
    path: Path,
    points: Tensor,
    *,
    steps: int,
    solver: str = "rk4",
    labels: Tensor | None = None,
    guidance: float = 1.0,
) -> FlowLikelihood:
    """The exact log-likelihood of `points` (N, D) under a model's samples, up to the solver's
    error.

    The flow dx/dt = u is run from the points at t = 0 to their noise at t = 1, and with it d log
    p/dt = -div u, whose divergence is exact: D backward passes, so D should be small. In the dtype
    of `points`. Source: instantaneous change of variables, arXiv 1806.07366. Raises ValueError for
    an unknown solver, steps < 1, other shapes, and as `prior_log_density`."""
    if solver not in SOLVERS:
        raise ValueError(f"solver = {solver!r}: expected one of {', '.join(SOLVERS)}")
    if points.ndim != 2:
        raise ValueError(f"points of shape {tuple(points.shape)}: expected (N, D)")
    velocity, dimension = GuidedVelocity(model, labels, guidance), points.shape[1]

    @torch.enable_grad()
    def augmented(state: Tensor, t: Tensor) -> Tensor:
        x = state[:, :dimension].detach().requires_grad_()
        u = velocity(x, t)
        # A field that does not depend on x has no graph: its divergence is zero.
        rows = [_derivative(u[:, i], x)[:, i] for i in range(dimension)]
        return torch.cat([u, torch.stack(rows).sum(0)[:, None]], dim=1).detach()

    start = torch.cat([points, torch.zeros_like(points[:, :1])], dim=1).detach()
    times = uniform_times(steps, 0.0, 1.0, points.device).to(points.dtype)
    with torch.no_grad(), evaluating(model):
        end = SOLVERS[solver](augmented, start, times)
    noise, divergence = end[:, :dimension], end[:, dimension].double()
    prior = prior_log_density(path, noise)
    return FlowLikelihood(prior.log_density + divergence, noise, prior.singular_mass)


def _derivative(values: Tensor, x: Tensor) -> Tensor:
    """The derivative of each of `values` (N,) by its own row of `x` (N, D): (N, D), zero if it does
    not depend on x."""
    if not values.requires_grad:
        return torch.zeros_like(x)
    (gradient,) = torch.autograd.grad(values.sum(), x, retain_graph=True, allow_unused=True)
    return torch.zeros_like(x) if gradient is None else gradient
