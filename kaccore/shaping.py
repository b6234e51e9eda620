"""Kinetic trajectory shaping: a little more speed near the noise, a little less near the data,
nothing trained again."""

import torch
from torch import Tensor

from kaccore.solvers import Velocity
from kaccore.tensors import left_broadcast


class ShapedVelocity:
    """eta(t) u(x, t) with eta = 1 + strength (2 t - 1): above 1 early (t near 1, the noise), below
    1 late, mean 1.

    After arXiv 2602.07928, which boosts early motion and lands softly; the straight line is our
    choice of eta. About 0.01 is meant, much more ruins the images. A solver that asks only at the
    start of each step, as Euler's does, sees a mean of 1 + strength/steps: this is for many steps.
    Raises ValueError for a strength outside [0, 1)."""

    def __init__(self, velocity: Velocity, strength: float) -> None:
        if not 0 <= strength < 1:
            raise ValueError(
                f"shaping strength = {strength!r}: expected 0 (none) to below 1, about 0.01"
            )
        self.velocity, self.strength = velocity, strength

    def __call__(self, x: Tensor, t: Tensor) -> Tensor:
        u = self.velocity(x, t)
        return left_broadcast(1 + self.strength * (2 * torch.as_tensor(t) - 1), u) * u
