"""What a trajectory tells beside its last image."""

import torch
from torch import Tensor

from kaccore.solvers import Velocity


class KineticEnergy:
    """Wraps a velocity and keeps 1/2 integral of |u|^2 dt per image, the kinetic path energy (arXiv 2602.07928).

    |u|^2 is summed over pixels and channels. Every evaluation counts with the same share of the time interval, which
    for the one-evaluation solvers on a uniform grid is 1/2 sum |u_i|^2 dt_i exactly.
    """

    def __init__(self, velocity: Velocity) -> None:
        self.velocity = velocity
        self.squares: list[Tensor] = []

    def __call__(self, x: Tensor, t: Tensor) -> Tensor:
        u = self.velocity(x, t)
        self.squares.append(u.detach().flatten(1).float().square().sum(1))
        return u

    def total(self, times: Tensor) -> Tensor:
        """The energy of each image over the grid `times` (n+1,): (B,)."""
        duration = float((times[-1] - times[0]).abs())
        return torch.stack(self.squares).mean(0) * duration / 2
