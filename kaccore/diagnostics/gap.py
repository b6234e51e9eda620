"""Endpoint-to-path: the distance of a student from its teacher between the times at which it was
trained to agree.

If root-mean-square speeds are at most B_T (teacher) and B_S (student), and the two are within
delta of each other at both ends of an interval of length h, they are within

    delta + (B_T + B_S) h / 2

of each other in the whole interval: no point is further than h/2 from an end (after arXiv
2509.21513, Theorem 8). It holds for the root-mean-square distance of samples that share their noise, and for
W2."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from kaccore.diagnostics.trajectories import trajectories
from kaccore.guidance import Model
from kaccore.metrics.transport import wasserstein2
from kaccore.paths import Path
from kaccore.solvers import uniform_times

W2_LIMIT = 512  # samples up to which W2 is computed at every time: 20 ms each


class Curve(NamedTuple):
    """A `distance` between student and teacher at every time, and its `bound`: (K+1,) each."""

    distance: Tensor
    bound: Tensor


@dataclass(frozen=True, eq=False)
class Gap:
    """Student against teacher at K+1 times from 1 down, K = intervals x substeps.

    times          (K+1,)
    ends           (K+1,) bool: the student's own grid, where it was trained to agree
    per_sample     (K+1, N) Euclidean distance of each sample's two positions
    rms, w2        curves of its root mean square and of W2 (None for more than W2_LIMIT samples), with their bounds;
                   both are distances over all coordinates, not per pixel
    teacher_speed, student_speed  (intervals,) root-mean-square speeds, the teacher's the largest in each interval
    """

    times: Tensor
    ends: Tensor
    per_sample: Tensor
    rms: Curve
    w2: Curve | None
    teacher_speed: Tensor
    student_speed: Tensor


def endpoint_to_path_gap(
    teacher: Model,
    student: Model,
    path: Path,
    shape: Sequence[int],
    *,
    intervals: int,
    substeps: int,
    seed: int,
    solver: str = "ab2",
    guidance: float = 1.0,
    labels: Tensor | None = None,
    eps: float = 0.0,
) -> Gap:
    """Run both from the same N draws of the prior, `shape` (N, ...): the student in `intervals`
    Euler steps down to t = `eps`, the teacher in `substeps` steps of `solver`, with `guidance`, for
    each of them.

    Speeds are displacements over time, so that the bound holds for exactly these polygons.
    Raises ValueError as `trajectories` does."""
    run = partial(trajectories, path=path, shape=shape, seed=seed, labels=labels, end=eps)
    of_teacher = run(teacher, solver=solver, steps=intervals * substeps, guidance=guidance)
    student_steps = run(student, steps=intervals)
    of_student = _interpolated(student_steps, substeps)
    per_sample = (of_teacher - of_student).flatten(2).square().sum(2).sqrt()
    h = (1 - eps) / intervals
    teacher_speed = _rms_speed(of_teacher, h / substeps).reshape(intervals, substeps).amax(1)
    student_speed = _rms_speed(student_steps, h)
    reach = (teacher_speed + student_speed) * h / 2
    w2 = None
    if shape[0] <= W2_LIMIT:
        w2 = torch.tensor([wasserstein2(a, b) for a, b in zip(of_teacher, of_student, strict=True)])
    return Gap(
        times=uniform_times(intervals * substeps, 1.0, eps),
        ends=torch.arange(intervals * substeps + 1) % substeps == 0,
        per_sample=per_sample,
        rms=_bounded(per_sample.square().mean(1).sqrt(), reach, substeps),
        w2=None if w2 is None else _bounded(w2, reach, substeps),
        teacher_speed=teacher_speed,
        student_speed=student_speed,
    )


def _interpolated(positions: Tensor, substeps: int) -> Tensor:
    """(n+1, N, ...) positions -> (n substeps + 1, N, ...), interpolated linearly."""
    share = torch.arange(substeps).div(substeps).reshape(1, -1, *[1] * (positions.ndim - 1))
    lines = positions[:-1, None] + share * positions.diff(dim=0)[:, None]
    return torch.cat([lines.flatten(0, 1), positions[-1:]])


def _rms_speed(positions: Tensor, step: float) -> Tensor:
    """(n+1, N, ...) positions a time `step` apart -> (n,) root mean square over samples of
    displacement / time."""
    return positions.diff(dim=0).flatten(2).square().sum(2).mean(1).sqrt() / step


def _bounded(distance: Tensor, reach: Tensor, substeps: int) -> Curve:
    """A distance at every sub-step, and its bound delta + reach, where delta is the larger distance
    at the ends of the interval. A time between two intervals belongs to the earlier one in sampling
    order."""
    at_ends = distance[::substeps]
    bound = torch.maximum(at_ends[:-1], at_ends[1:]) + reach
    return Curve(distance, torch.cat([bound[:1], bound.repeat_interleave(substeps)]))
