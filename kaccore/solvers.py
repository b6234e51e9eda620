"""ODE solvers for dx/dt = velocity(x, t) on any monotone time grid, and the grids.

A solver is `(velocity, x, times) -> x at times[-1]`. `times` has n + 1 points for n steps,
decreasing (sampling) or increasing; it is (n+1,), or (n+1, B) where every image of the batch has a
grid of its own. Guidance, counting, saving and no_grad are the caller's. EVALUATIONS says how often
a solver calls `velocity` in one step."""

from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor

from kaccore.nfe import EVALUATIONS as EVALUATIONS
from kaccore.tensors import left_broadcast

Velocity = Callable[[Tensor, Tensor], Tensor]
Solver = Callable[[Velocity, Tensor, Tensor], Tensor]


def uniform_times(
    steps: int, start: float = 1.0, end: float = 0.0, device: str | torch.device = "cpu"
) -> Tensor:
    """`steps` equal intervals from `start` to `end`: (steps + 1,) float32. Raises ValueError for
    steps < 1."""
    if steps < 1:
        raise ValueError(f"steps = {steps}: expected at least 1 interval")
    return torch.linspace(start, end, steps + 1, dtype=torch.float64).to(torch.float32).to(device)


def euler(velocity: Velocity, x: Tensor, times: Tensor) -> Tensor:
    """Order 1, one evaluation a step."""
    for t, t_next in pairwise(check_times(times)):
        x = x + left_broadcast(t_next - t, x) * velocity(x, t)
    return x


def midpoint(velocity: Velocity, x: Tensor, times: Tensor) -> Tensor:
    """Order 2, two evaluations a step: the slope at the half step."""
    for t, t_next in pairwise(check_times(times)):
        h = left_broadcast(t_next - t, x)
        half = x + h / 2 * velocity(x, t)
        x = x + h * velocity(half, (t + t_next) / 2)
    return x


def heun(velocity: Velocity, x: Tensor, times: Tensor) -> Tensor:
    """Order 2, two evaluations a step: the mean of the slopes at both ends."""
    for t, t_next in pairwise(check_times(times)):
        h = left_broadcast(t_next - t, x)
        v = velocity(x, t)
        x = x + h / 2 * (v + velocity(x + h * v, t_next))
    return x


def ab2(velocity: Velocity, x: Tensor, times: Tensor) -> Tensor:
    """Adams-Bashforth 2 with variable steps, order 2, one evaluation a step; the first step is
    Euler's."""
    previous: tuple[Tensor, Tensor] | None = None
    for t, t_next in pairwise(check_times(times)):
        h, v = left_broadcast(t_next - t, x), velocity(x, t)
        slope = v
        if previous is not None:
            h_prev, v_prev = previous
            slope = v + h / (2 * h_prev) * (v - v_prev)
        x = x + h * slope
        previous = h, v
    return x


def rk4(velocity: Velocity, x: Tensor, times: Tensor) -> Tensor:
    """The classical Runge-Kutta method, order 4, four evaluations a step."""
    for t, t_next in pairwise(check_times(times)):
        h, middle = left_broadcast(t_next - t, x), (t + t_next) / 2
        k1 = velocity(x, t)
        k2 = velocity(x + h / 2 * k1, middle)
        k3 = velocity(x + h / 2 * k2, middle)
        k4 = velocity(x + h * k3, t_next)
        x = x + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
    return x


def check_times(times: Tensor) -> Tensor:
    """`times` itself; raises ValueError unless it has two or more points, strictly monotone in its
    first axis."""
    if times.ndim not in (1, 2) or len(times) < 2:
        raise ValueError(
            f"times of shape {tuple(times.shape)}: expected (n+1,) or (n+1, B) with n >= 1"
        )
    if (
        torch.compiler.is_exporting()
    ):  # no tensor has numbers then; a sampler has checked its grid when it was made
        return times
    steps = times[1:] - times[:-1]
    if not bool((steps > 0).all() | (steps < 0).all()):
        raise ValueError("times must be strictly increasing or strictly decreasing")
    return times


SOLVERS: dict[str, Solver] = {
    "euler": euler,
    "midpoint": midpoint,
    "heun": heun,
    "ab2": ab2,
    "rk4": rk4,
}
