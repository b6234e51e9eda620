"""Losses on what a student makes: its images after all of its steps, through which the gradient
goes.

    z ~ prior;  x = M Euler steps of the student from z;  loss = sum over k of w_k L_k(x, ...)

A loss may train a network of its own with the student, such as a discriminator or a fake field. Both networks
are trained at once by one optimiser: each part gives gradients to its own weights alone."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Generator, Tensor, nn

from kaccore.distill.endpoint import grid
from kaccore.distill.pairs import NewPairs, Pairs
from kaccore.guidance import Model
from kaccore.paths import Path, PathSample
from kaccore.solvers import euler
from kaccore.tensors import ALL, of_shard

STUDENT = "generator"
RESTING = (
    "resting"  # instead of the name of a network: the student, which is to have a gradient of zero
)


ENCODER_OF = "encoder of "  # before the name of a network: a score (B,) from the middle of it


class StudentAndOthers(nn.Module):
    """A student, and the networks that are trained with it, by name.

    Called as (x, t, labels) it is the student's velocity; `network` calls another one, or the mean
    of its features in the middle (ENCODER_OF), for which it has `encode`. `optimise`:
    for a name, what its optimiser does otherwise: "lr", a factor on the learning rate, and "betas"
    of Adam. `rests`: in some steps the student's gradient is zero, and it is not to be trained in
    these; see `Training`."""

    def __init__(
        self,
        student: nn.Module,
        others: Mapping[str, nn.Module],
        optimise: Mapping[str, Mapping[str, Any]] | None = None,
        *,
        rests: bool = False,
    ) -> None:
        super().__init__()
        self.rests = rests
        self.add_module(STUDENT, student)
        for name, network in others.items():
            self.add_module(name, network)
        self.optimise = dict(optimise or {})

    def forward(
        self, x: Tensor, t: Tensor, labels: Tensor | None = None, network: str = STUDENT
    ) -> Tensor:
        if network == RESTING:
            weights = getattr(self, STUDENT).parameters()
            return 0.0 * torch.stack([parameter.sum() for parameter in weights]).sum()
        if network.startswith(ENCODER_OF):
            features: Tensor = getattr(self, network.removeprefix(ENCODER_OF)).encode(x, t, labels)
            return features.flatten(1).mean(1)
        return getattr(self, network)(x, t, labels)

    def parameter_groups(self) -> list[dict[str, Any]]:
        """The weights of each network in order, with what is set for them in `optimise`."""
        return [
            {"params": list(network.parameters()), **self.optimise.get(name, {})}
            for name, network in self.named_children()
        ]


@dataclass(frozen=True)
class Made:
    """What a student has made of a batch, for the losses on it.

    `images` (b, ...) of this worker's `shard`, with their gradient; `targets` (b, ...): where the
    teacher arrives from the same noise, None without pairs. Of the whole batch: `real` images (B,
    ...) and `labels` (B,), which are those of the images too. `generator`: draws for the whole
    batch."""

    images: Tensor
    targets: Tensor | None
    real: Tensor
    labels: Tensor | None
    generator: Generator | None
    shard: slice

    @property
    def own_labels(self) -> Tensor | None:
        """The labels of the shard."""
        (labels,) = of_shard(self.shard, self.labels)
        return labels

    def on_path(self, path: Path, images: Tensor, t: Tensor) -> PathSample:
        """Points of `path` from `images` (b, ...) of the shard at the times `t` (B,); noise is drawn
        for the whole batch."""
        whole = torch.zeros_like(self.real)
        whole[self.shard] = images
        x, velocity = of_shard(self.shard, *path.sample(whole, t, self.generator))
        return PathSample(x, velocity)


class ImageLoss(Protocol):
    """A loss on what a student makes."""

    def __call__(self, networks: Model, made: Made) -> Tensor:
        """The scalar loss; its gradient reaches the student through `made.images`."""
        ...


class GeneratedDistiller:
    """The weighted sum of `losses` on what a student of `intervals` Euler steps makes of prior noise,
    or on the grid `times` (M + 1,). With `pairs` the noise is that of the pairs, with the labels of
    the batch; else it is new in each step.

    The student learns in one of `every` steps, at random; the others are for the other networks
    alone. Raises ValueError for another grid, no loss, or `every` < 1."""

    def __init__(
        self,
        path: Path,
        losses: Sequence[tuple[float, ImageLoss]],
        *,
        intervals: int | None = None,
        times: Tensor | None = None,
        pairs: Pairs | NewPairs | None = None,
        every: int = 1,
    ) -> None:
        if not losses:
            raise ValueError("losses = []: expected at least one")
        if every < 1:
            raise ValueError(f"every = {every}: expected at least 1")
        self.every = every
        self.path = path
        self.losses = tuple(losses)
        self.pairs = pairs
        self.times = grid(intervals, times, 0.0)

    def loss(
        self,
        student: Model,
        x0: Tensor,
        labels: Tensor | None = None,
        generator: Generator | None = None,
        shard: slice = ALL,
    ) -> Tensor:
        """The sum for a batch of real images `x0` (B, ...), or one worker's `shard` of it."""
        (mine,) = of_shard(shard, labels)
        if self.pairs is None:
            (z,), targets = of_shard(shard, self.path.prior(x0.shape, generator).to(x0)), None
        else:
            z, targets = self.pairs.draw(self.path, x0, labels, generator, shard)

        def velocity(x: Tensor, t: Tensor) -> Tensor:
            return student(x, t.expand(len(x)), mine)

        learns = torch.is_grad_enabled() and self._learns(generator, x0.device)
        with torch.set_grad_enabled(learns):
            images = euler(velocity, z, self.times.to(x0.device))
        made = Made(images, targets, x0, labels, generator, shard)
        total = images.new_zeros(())
        if (
            self.every > 1 and not learns
        ):  # data-parallel training expects a gradient of all weights
            total = student(z, self.times[:1].to(x0).expand(len(z)), mine, network=RESTING)
        for weight, loss in self.losses:
            total = total + weight * loss(student, made)
        return total

    def _learns(self, generator: Generator | None, device: torch.device) -> bool:
        """Whether this is a step in which the student learns."""
        if self.every == 1:
            return True
        return bool(torch.rand((), generator=generator, device=device) < 1 / self.every)


def pulled(images: Tensor, pull: Tensor) -> Tensor:
    """A scalar zero whose gradient in `images` is `pull`, shaped as they are."""
    return ((images - images.detach()) * pull).sum()
