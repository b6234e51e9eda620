"""Endpoint distillation (DistillKac, arXiv 2509.21513, section 4): a student's one Euler step matches where the
frozen teacher arrives after many.

    t_n = 1 - n (1 - eps)/M,  n = 0 ... M         the student's grid of M intervals
    x = x_{t_n} of the path;  y = teacher integrated from t_n to t_{n+1} in N sub-steps
    velocity target:  ( u(x, t_n) - (x - y)/(t_n - t_{n+1}) )^2
    endpoint target:  ( x - (t_n - t_{n+1}) u(x, t_n) - y )^2
"""

import torch
from torch import Generator, Tensor

from kaccore.guidance import GuidedVelocity, Model
from kaccore.paths import Path
from kaccore.solvers import SOLVERS, uniform_times
from kaccore.tensors import left_broadcast

TARGETS = ("velocity", "endpoint")


class EndpointDistiller:
    """The loss of a student with `intervals` Euler steps over a frozen `teacher(x, t, labels)`.

    The teacher takes `substeps` steps of `solver` in each interval, with `guidance` (1 = none); a guided teacher's
    student carries the guidance in one evaluation. `eps` in [0, 1) is the time at which the grid ends. Raises
    ValueError for an unknown solver or target, or counts < 1.
    """

    def __init__(
        self,
        teacher: Model,
        path: Path,
        *,
        intervals: int,
        substeps: int,
        solver: str = "euler",
        guidance: float = 1.0,
        target: str = "velocity",
        eps: float = 0.0,
    ) -> None:
        if solver not in SOLVERS:
            raise ValueError(f"solver = {solver!r}: expected one of {', '.join(SOLVERS)}")
        if target not in TARGETS:
            raise ValueError(f"target = {target!r}: expected one of {', '.join(TARGETS)}")
        if substeps < 1:
            raise ValueError(f"substeps = {substeps}: expected at least 1")
        self.teacher, self.path, self.guidance, self.target = teacher, path, guidance, target
        self.times = uniform_times(intervals, 1.0, eps)
        self.shares = uniform_times(substeps, 0.0, 1.0)  # how far into the interval each sub-step ends
        self.solver = SOLVERS[solver]

    def loss(
        self, student: Model, x0: Tensor, labels: Tensor | None = None, generator: Generator | None = None
    ) -> Tensor:
        """Mean squared error over a batch `x0` (B, ...) in [-1, 1], each image on an interval drawn uniformly."""
        times, shares = self.times.to(x0.device), self.shares.to(x0.device)
        n = torch.randint(len(times) - 1, (len(x0),), generator=generator, device=x0.device)
        start, end = times[n], times[n + 1]
        x = self.path.sample(x0, start, generator).x
        y = self.teach(x, start + shares[:, None] * (end - start), labels)
        h = left_broadcast(start - end, x)
        u = student(x, start, labels)
        error = u - (x - y) / h if self.target == "velocity" else x - h * u - y
        return error.square().mean()

    @torch.no_grad()
    def teach(self, x: Tensor, times: Tensor, labels: Tensor | None = None) -> Tensor:
        """Where the teacher takes `x` along `times` (substeps + 1, B)."""
        return self.solver(GuidedVelocity(self.teacher, labels, self.guidance), x, times)
