"""One student for every step count: the map of the flow from any time t to any earlier one s.

    G(x, t, s) = x - (t - s) v(x, t, end=s)             v: the mean velocity between the two times
    Lagrangian:  dG/ds = u(G, s)    |  v - (t - s) dv/ds  =  u(G(x, t, s), s)
    mean flow:   of the path itself |  v = u - (t - s) Dv/Dt,   D/Dt = d/dt + u . d/dx
    with s = t both say that v(x, t, end=t) = u(x, t), which is learned from a share of the images

Lagrangian map distillation (arXiv 2505.18825) needs a teacher u, and one derivative in the end time
alone. MeanFlow (arXiv 2505.13447) has the derivative along the path; with a teacher's velocity it
distills, with the path's own it learns from scratch. Neither adds noise on the way, which the Kac
path could not."""

from typing import Literal

import torch
import torch.autograd.forward_ad as forward_ad
from torch import Generator, Tensor

from kaccore.guidance import GuidedVelocity, Model
from kaccore.losses import distance
from kaccore.models.attention import plain_attention
from kaccore.paths import Path
from kaccore.tensors import ALL, left_broadcast, of_shard

Form = Literal["lagrangian", "mean"]
LAGRANGIAN: Form = "lagrangian"
MEAN: Form = "mean"


class FlowMapDistiller:
    """The loss of a student `model(x, t, labels, end=s)`, of which `sample_consistency` takes any
    number of jumps.

    `teacher(x, t, labels)` with `guidance` (1 = none), which the student then carries in one
    evaluation; None: the velocity of the path itself, for `form` "mean" alone. `diagonal` in [0, 1]:
    the share of images with s = t. `huber` as in `kaccore.losses.distance`, in units of the velocity.
    Raises ValueError for another form, no teacher where one is needed, or a share outside."""

    def __init__(
        self,
        teacher: Model | None,
        path: Path,
        *,
        form: Form = LAGRANGIAN,
        guidance: float = 1.0,
        diagonal: float = 0.5,
        huber: float | None = None,
    ) -> None:
        if form not in (LAGRANGIAN, MEAN):
            raise ValueError(f"form = {form!r}: expected {LAGRANGIAN} or {MEAN}")
        if teacher is None and (form == LAGRANGIAN or guidance != 1):
            raise ValueError(f"teacher = None: form {LAGRANGIAN} and guidance need one")
        if not 0 <= diagonal <= 1:
            raise ValueError(f"diagonal = {diagonal}: expected 0 to 1")
        self.teacher = teacher
        self.path = path
        self.form = form
        self.guidance = guidance
        self.diagonal = diagonal
        self.huber = huber

    def loss(
        self,
        student: Model,
        x0: Tensor,
        labels: Tensor | None = None,
        generator: Generator | None = None,
        shard: slice = ALL,
    ) -> Tensor:
        """Mean distance over a batch `x0` (B, ...) in [-1, 1], or one worker's `shard` of it. Times t
        are uniform on (0, 1], s on [0, t]."""
        count, device = len(x0), x0.device
        t = 1 - torch.rand(count, generator=generator, device=device)
        s = t * torch.rand(count, generator=generator, device=device)
        same = torch.rand(count, generator=generator, device=device) < self.diagonal
        s = torch.where(same, t, s)
        sample = self.path.sample(x0, t, generator)
        x, u, t, s, labels = of_shard(shard, sample.x, sample.velocity, t, s, labels)
        if self.teacher is not None:
            u = self._taught(x, t, labels)
        if self.form == MEAN:
            return distance(self._mean_residual(student, x, u, t, s, labels), self.huber)
        return distance(self._lagrangian_residual(student, x, t, s, labels), self.huber)

    @torch.no_grad()
    def _taught(self, x: Tensor, t: Tensor, labels: Tensor | None) -> Tensor:
        assert self.teacher is not None
        return GuidedVelocity(self.teacher, labels, self.guidance)(x, t)

    def _lagrangian_residual(
        self, student: Model, x: Tensor, t: Tensor, s: Tensor, labels: Tensor | None
    ) -> Tensor:
        with forward_ad.dual_level(), plain_attention():
            end = forward_ad.make_dual(s, torch.ones_like(s))
            velocity, slope = _unpacked(student(x, t, labels, end=end))
        span = left_broadcast(t - s, x)
        landed = (x - span * velocity).detach()
        return velocity - span * slope - self._taught(landed, s, labels)

    def _mean_residual(
        self, student: Model, x: Tensor, u: Tensor, t: Tensor, s: Tensor, labels: Tensor | None
    ) -> Tensor:
        with torch.no_grad(), forward_ad.dual_level(), plain_attention():
            moving, now = forward_ad.make_dual(x, u), forward_ad.make_dual(t, torch.ones_like(t))
            _, slope = _unpacked(student(moving, now, labels, end=s))
        return student(x, t, labels, end=s) - (u - left_broadcast(t - s, x) * slope)


def _unpacked(dual: Tensor) -> tuple[Tensor, Tensor]:
    """The value and the derivative of a dual number; one without a derivative does not depend on
    what moves."""
    value, slope = forward_ad.unpack_dual(dual)
    return value, torch.zeros_like(value) if slope is None else slope
