"""Consistency of a velocity field with the Kac equations, in one dimension.

The density p(x, t) of x_0 + K_t, for data x_0 of any distribution, and its velocity v = E[dX/dt |
X_t = x] satisfy

    p_t + (p v)_x = 0                                          (continuity)
    v_t - v v_x + 2 a v + (c^2 - v^2) (log p)_x = 0            (the Kac identity)

The first is conservation of mass; both together are the damped wave equation p_tt + 2 a p_t = c^2
p_xx. They hold for f = 1 and g = t, that is for the noise alone. In the spirit of arXiv 2301.13737
and 2206.00860."""

from typing import NamedTuple

from torch import Tensor

from kaccore.process import KacProcess


class KacResidual(NamedTuple):
    """The residuals of the two equations at the grid's inner points, (T-2, X-2) each; 0 = exact.

    continuity  in units of density / time;  identity  in units of speed / time
    """

    continuity: Tensor
    identity: Tensor


def kac_identity_residual(
    velocity: Tensor, density: Tensor, times: Tensor, points: Tensor, process: KacProcess
) -> KacResidual:
    """Both residuals of `velocity` and `density` (T, X) given at `times` (T,) and `points` (X,),
    each evenly spaced.

    By central differences, whose error is of second order in the spacings. The grid has to be inside
    the light cones, where the density is positive and smooth; atoms are not part of it.
    Raises ValueError for other shapes, uneven spacing, fewer than three times or points, or a
    density that is not positive."""
    shape = (len(times), len(points))
    if tuple(velocity.shape) != shape or tuple(density.shape) != shape or min(shape) < 3:
        raise ValueError(
            f"velocity of shape {tuple(velocity.shape)}, density of shape {tuple(density.shape)}; expected {shape}, "
            "the numbers of times and points, three or more each way"
        )
    if not bool((density > 0).all()):
        raise ValueError("the density has to be positive: stay within the light cone")
    dt, dx = _spacing(times, "times"), _spacing(points, "points")

    def d_t(values: Tensor) -> Tensor:
        return (values[2:, 1:-1] - values[:-2, 1:-1]) / (2 * dt)

    def d_x(values: Tensor) -> Tensor:
        return (values[1:-1, 2:] - values[1:-1, :-2]) / (2 * dx)

    a = process.damping
    c = process.speed
    v = velocity[1:-1, 1:-1]
    identity = (
        d_t(velocity) - v * d_x(velocity) + 2 * a * v + (c**2 - v.square()) * d_x(density.log())
    )
    return KacResidual(d_t(density) + d_x(density * velocity), identity)


def _spacing(grid: Tensor, name: str) -> float:
    steps = grid.diff()
    step = float(steps.mean())
    if not step > 0 or float((steps - step).abs().max()) > 1e-4 * step:
        raise ValueError(
            f"{name} from {float(grid[0])} to {float(grid[-1])} are not evenly spaced and increasing"
        )
    return step
