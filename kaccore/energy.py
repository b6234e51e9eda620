"""How a trajectory moves: its kinetic energy, its largest speed, and whether it keeps to the light
cone."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from kaccore.paths import Path
from kaccore.solvers import Velocity

HALFWAY = 0.5  # the path's early part, near the noise, is t in [1/2, 1]
ROUNDING = 1e-6  # relative: a velocity on the light cone is no violation for its last float32 digit


@dataclass(frozen=True, eq=False)
class TrajectorySummary:
    """Of each image's trajectory, all (B,):

    early_energy           the part of the kinetic path energy with t in [1/2, 1], near the noise
    late_energy            the part with t in [0, 1/2], near the data
    max_speed              the largest abs(velocity) of any coordinate at any evaluation
    light_cone_violations  the share of (evaluation, coordinate) pairs above the bound; None where there is no bound
    reach                  the largest abs(coordinate) at its end, before any tone curve; None where it is not kept
    """

    early_energy: Tensor
    late_energy: Tensor
    max_speed: Tensor
    light_cone_violations: Tensor | None
    reach: Tensor | None = None

    @classmethod
    def join(cls, parts: "list[TrajectorySummary]") -> "TrajectorySummary":
        """The summary of all parts' images, in sequence."""
        violations = [
            part.light_cone_violations for part in parts if part.light_cone_violations is not None
        ]
        reaches = [part.reach for part in parts if part.reach is not None]
        return cls(
            torch.cat([part.early_energy for part in parts]),
            torch.cat([part.late_energy for part in parts]),
            torch.cat([part.max_speed for part in parts]),
            torch.cat(violations) if violations else None,
            torch.cat(reaches) if reaches else None,
        )

    def first(self, count: int) -> "TrajectorySummary":
        """The summary of the first `count` images, on the CPU."""
        violations, reach = self.light_cone_violations, self.reach
        return TrajectorySummary(
            self.early_energy[:count].cpu(),
            self.late_energy[:count].cpu(),
            self.max_speed[:count].cpu(),
            None if violations is None else violations[:count].cpu(),
            None if reach is None else reach[:count].cpu(),
        )


class KineticEnergy:
    """Wraps a velocity and keeps 1/2 integral of |u|^2 dt per image, the kinetic path energy (arXiv
    2602.07928).

    |u|^2 is summed over pixels and channels. The evaluations of a step share its length, so that with
    the one-evaluation solvers it is 1/2 sum |u_i|^2 dt_i exactly. And the largest speed of
    a coordinate, and how many coordinates are faster than `bound` (see `light_cone_bound`; infinite: none is asked).
    """

    def __init__(self, velocity: Velocity, bound: float = math.inf) -> None:
        self.velocity, self.bound = velocity, bound
        self.squares: list[Tensor] = []
        self.speeds: list[Tensor] = []
        self.outside: list[Tensor] = []

    def __call__(self, x: Tensor, t: Tensor) -> Tensor:
        u = self.velocity(x, t)
        flat = u.detach().flatten(1).float()
        self.squares.append(flat.square().sum(1))
        self.speeds.append(flat.abs().amax(1))
        if math.isfinite(self.bound):
            self.outside.append((flat.abs() > self.bound * (1 + ROUNDING)).float().mean(1))
        return u

    def total(self, times: Tensor) -> Tensor:
        """The energy of each image over the grid `times` (n+1,): (B,)."""
        return self._energy(self._edges(times))

    def summary(self, times: Tensor) -> TrajectorySummary:
        """All the rest, over the grid `times` (n+1,). An evaluation's share of the path that t =
        1/2 cuts in two counts on both sides, so that early and late energy add up to the total."""
        edges = self._edges(times)
        violations = _sum(self.outside) / len(self.outside) if self.outside else None
        early = self._energy(edges.clamp_min(HALFWAY))
        late = self._energy(edges.clamp_max(HALFWAY))
        return TrajectorySummary(early, late, torch.stack(self.speeds).amax(0), violations)

    def _edges(self, times: Tensor) -> Tensor:
        """The times between which each evaluation counts: those of one step share it."""
        each = len(self.squares) // (len(times) - 1)
        shares = times.double().cpu().diff().repeat_interleave(each) / each
        return torch.cat([times[:1].double().cpu(), times[0].double().cpu() + shares.cumsum(0)])

    def _energy(self, edges: Tensor) -> Tensor:
        shares = edges.diff().abs().tolist()
        return (
            _sum([share * square for share, square in zip(shares, self.squares, strict=True)]) / 2
        )


def _sum(rows: list[Tensor]) -> Tensor:
    """Row after row: torch's own sum over the first axis rounds differently in batches of different
    sizes."""
    return sum(rows[1:], start=rows[0])


def light_cone_bound(path: Path, guidance: float = 1.0, radius: float = 1.0) -> float:
    """(1 + 2 |s - 1|) (max |f'| R + max g' c): no coordinate of the field of `path`, guided by s,
    is faster for data in [-radius, radius]; infinite for a path without a speed limit. Guidance
    itself leaves the light cone of s = 1 (arXiv 2509.21513, section 3)."""
    return (1 + 2 * abs(guidance - 1)) * path.speed_limit(radius)
