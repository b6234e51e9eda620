"""Fixed pairs (noise, where the teacher arrives from it), and the regression on them.

    z ~ prior, y = the teacher's end from z;  loss = mean distance(x - y),  x = the student's end from z

The distillation of rectified flow (arXiv 2209.03003), which draws its pairs once. The distance may
be the pseudo-Huber distance of `kaccore.losses.distance`."""

from typing import TYPE_CHECKING

import torch
from torch import Generator, Tensor

from kaccore.guidance import GuidedVelocity, Model
from kaccore.losses import distance
from kaccore.paths import Path
from kaccore.sampling import prior_images
from kaccore.solvers import SOLVERS, uniform_times
from kaccore.tensors import ALL, of_shard
from kaccore.tone import tone_of

if TYPE_CHECKING:
    from kaccore.distill.generated import Made


class Pairs:
    """`ends` (N, ...) float: where the teacher arrives from the noise of images number 0 ... N - 1 of
    `seed`, see `kaccore.sampling.prior_images`; `labels` (N,) int64 or None. The noise is drawn again
    when it is needed. Raises ValueError for no pairs, or labels of another length."""

    def __init__(self, ends: Tensor, labels: Tensor | None, seed: int) -> None:
        if not len(ends):
            raise ValueError("ends of no pairs: expected at least one")
        if labels is not None and len(labels) != len(ends):
            raise ValueError(f"{len(labels)} labels for {len(ends)} pairs")
        self.ends = ends
        self.labels = labels
        self.seed = seed
        self._order = None if labels is None else labels.argsort(stable=True)

    def draw(
        self,
        path: Path,
        x0: Tensor,
        labels: Tensor | None,
        generator: Generator | None,
        shard: slice = ALL,
    ) -> tuple[Tensor, Tensor]:
        """The noise and the ends (b, ...) of one pair for each image of the `shard` of a batch `x0`
        (B, ...): a random one, with `labels` (B,) a random one of the same label. Raises ValueError
        for a label that no pair has."""
        index = self._index(len(x0), labels, generator).cpu()[shard]
        z = prior_images(path, self.seed, index.tolist(), x0.shape[1:])
        return z.to(x0), self.ends[index].to(x0)

    def _index(self, count: int, labels: Tensor | None, generator: Generator | None) -> Tensor:
        device = "cpu" if generator is None else generator.device
        share = torch.rand(count, generator=generator, device=device).double().cpu()
        if labels is None or self.labels is None or self._order is None:
            return (share * len(self.ends)).long()
        counts = torch.bincount(self.labels, minlength=int(labels.max()) + 1)
        wanted = labels.cpu()
        if not bool((counts[wanted] > 0).all()):
            missing = sorted(set(wanted[counts[wanted] == 0].tolist()))
            raise ValueError(
                f"no pair of {len(self.ends)} has the label {missing[0]}: draw more pairs"
            )
        first = counts.cumsum(0) - counts
        return self._order[first[wanted] + (share * counts[wanted]).long()]


class NewPairs:
    """Pairs of new noise in each step: the teacher takes `steps` steps of `solver` with `guidance` (1
    = none) from it; a calibrated teacher's end is on its tone curve. Raises ValueError for an unknown
    solver or steps < 1."""

    def __init__(
        self, teacher: Model, *, solver: str = "ab2", steps: int = 20, guidance: float = 1.0
    ) -> None:
        if solver not in SOLVERS:
            raise ValueError(f"solver = {solver!r}: expected one of {', '.join(SOLVERS)}")
        self.teacher = teacher
        self.solver = SOLVERS[solver]
        self.times = uniform_times(steps)
        self.guidance = guidance

    @torch.no_grad()
    def draw(
        self,
        path: Path,
        x0: Tensor,
        labels: Tensor | None,
        generator: Generator | None,
        shard: slice = ALL,
    ) -> tuple[Tensor, Tensor]:
        """See `Pairs.draw`."""
        z = path.prior(x0.shape, generator).to(x0)
        z, labels = of_shard(shard, z, labels)
        velocity = GuidedVelocity(self.teacher, labels, self.guidance)
        ends = self.solver(velocity, z, self.times.to(x0.device))
        tone = tone_of(self.teacher)
        return z, ends if tone is None else tone(ends)


class PairsLoss:
    """The mean distance of what a student makes to where its teacher arrives from the same noise.
    `huber`: the scale of the pseudo-Huber distance, in units of the image; None: the square."""

    def __init__(self, huber: float | None = None) -> None:
        self.huber = huber

    def __call__(self, networks: Model, made: "Made") -> Tensor:
        assert made.targets is not None, "the distiller has pairs"
        return distance(made.images - made.targets, self.huber)
