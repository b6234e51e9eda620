"""Endpoint distillation (DistillKac, arXiv 2509.21513, section 4): a student's one Euler step
matches where the frozen teacher arrives after many.

    t_n = 1 - n (1 - eps)/M,  n = 0 ... M         the student's grid of M intervals
    x = x_{t_n} of the path;  y = teacher integrated from t_n to t_{n+1} in N sub-steps
    velocity target:  ( u(x, t_n) - (x - y)/(t_n - t_{n+1}) )^2
    endpoint target:  ( x - (t_n - t_{n+1}) u(x, t_n) - y )^2

The square may be a pseudo-Huber distance instead (`kaccore.losses.distance`).
"""

import torch
from torch import Generator, Tensor

from kaccore.guidance import GuidedVelocity, Model
from kaccore.losses import distance
from kaccore.paths import Path
from kaccore.solvers import SOLVERS, uniform_times
from kaccore.tensors import ALL, left_broadcast, of_shard

TARGETS = ("velocity", "endpoint")


class EndpointDistiller:
    """The loss of a student with `intervals` Euler steps over a frozen `teacher(x, t, labels)`.

    The teacher takes `substeps` steps of `solver` in each interval, with `guidance` (1 = none); a
    guided teacher's student carries the guidance in one evaluation. `eps` in [0, 1) is the time at
    which the grid ends. `times` (M + 1,) gives the grid itself instead, decreasing from 1 to its
    own eps >= 0; `inner` (M substeps + 1,) the teacher's, of which it has to be every substeps-th:
    without it a teacher's sub-steps are equal in each interval. `huber`, in units of the target,
    1e-6 to 1e6, is where the loss turns from the square to the absolute value, coordinate by
    coordinate; None: the square. Raises ValueError for an unknown solver or target, counts < 1,
    another `huber`, another grid, or one that is given twice or not at all."""

    def __init__(
        self,
        teacher: Model,
        path: Path,
        *,
        intervals: int | None = None,
        times: Tensor | None = None,
        inner: Tensor | None = None,
        substeps: int,
        solver: str = "euler",
        guidance: float = 1.0,
        target: str = "velocity",
        eps: float = 0.0,
        huber: float | None = None,
    ) -> None:
        if solver not in SOLVERS:
            raise ValueError(f"solver = {solver!r}: expected one of {', '.join(SOLVERS)}")
        if target not in TARGETS:
            raise ValueError(f"target = {target!r}: expected one of {', '.join(TARGETS)}")
        if substeps < 1:
            raise ValueError(f"substeps = {substeps}: expected at least 1")
        if huber is not None and not 1e-6 <= huber <= 1e6:  # float32 has its square
            raise ValueError(f"huber = {huber!r}: expected 1e-6 to 1e6, or None for the square")
        self.teacher = teacher
        self.path = path
        self.guidance = guidance
        self.target = target
        self.huber = huber
        self.times = grid(intervals, times, eps)
        self.shares = uniform_times(
            substeps, 0.0, 1.0
        )  # how far into the interval each sub-step ends
        if inner is not None and not torch.equal(inner[::substeps], self.times):
            raise ValueError(
                f"inner = {inner.tolist()}: every {substeps}th has to be one of {self.times.tolist()}"
            )
        self.inner = (
            None if inner is None else inner.unfold(0, substeps + 1, substeps)
        )  # (intervals, substeps + 1)
        self.solver = SOLVERS[solver]

    def loss(
        self,
        student: Model,
        x0: Tensor,
        labels: Tensor | None = None,
        generator: Generator | None = None,
        shard: slice = ALL,
    ) -> Tensor:
        """Mean distance over a batch `x0` (B, ...) in [-1, 1], or one worker's `shard` of it, each
        image on an interval drawn uniformly."""
        x, start, h, y = self.draw(x0, labels, generator, shard)
        u = student(x, start, *of_shard(shard, labels))
        error = u - (x - y) / h if self.target == "velocity" else x - h * u - y
        return distance(error, self.huber)

    def draw(
        self, x0: Tensor, labels: Tensor | None, generator: Generator | None, shard: slice = ALL
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Of the `shard`: points x on the path of `x0`, the times at which their intervals start,
        the intervals' lengths h, shaped to broadcast against x, and where the teacher takes them,
        y."""
        times, shares = self.times.to(x0.device), self.shares.to(x0.device)
        n = torch.randint(len(times) - 1, (len(x0),), generator=generator, device=x0.device)
        x, n, labels = of_shard(shard, self.path.sample(x0, times[n], generator).x, n, labels)
        start, end = times[n], times[n + 1]
        within = (
            start + shares[:, None] * (end - start)
            if self.inner is None
            else self.inner.to(x0.device)[n].T
        )
        y = self.teach(x, within, labels)
        return x, start, left_broadcast(start - end, x), y

    @torch.no_grad()
    def teach(self, x: Tensor, times: Tensor, labels: Tensor | None = None) -> Tensor:
        """Where the teacher takes `x` along `times` (substeps + 1, B)."""
        return self.solver(GuidedVelocity(self.teacher, labels, self.guidance), x, times)


def grid(intervals: int | None, times: Tensor | None, eps: float) -> Tensor:
    """The student's grid (M + 1,): uniform in `intervals`, or `times` where they are a grid from 1
    down to >= 0."""
    if times is None:
        if intervals is None:
            raise ValueError("a student needs intervals or times: neither was given")
        return uniform_times(intervals, 1.0, eps)
    if intervals is not None or eps != 0:
        raise ValueError(f"intervals = {intervals}, eps = {eps}: times say both already")
    if (
        times.ndim != 1
        or len(times) < 2
        or times[0] != 1
        or times[-1] < 0
        or not bool((times.diff() < 0).all())
    ):
        raise ValueError(
            f"times = {times.tolist()}: expected two or more, decreasing from 1 to at least 0"
        )
    return times
