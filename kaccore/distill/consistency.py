"""Trajectory consistency distillation (TCD, arXiv 2402.19159; the map from any time to any earlier
one is CTM's, arXiv 2310.02279): a student that jumps from any t to any s <= t.

    G(x, t, s) = x - (t - s) u(x, t, end=s)                 the jump; G(x, t, t) = x by construction
    t_n = 1 - n/N,  n = 0 ... N                             the teacher's grid of N intervals
    x = x_{t_n} of the path;  y = teacher from t_n to t_{n+1};  s uniform on [0, t_{n+1}]
    loss = ( G(x, t_n, s) - G_ema(y, t_{n+1}, s) )^2        squared or pseudo-Huber distance, weight 1

Weight 1 on the endpoints is (t_n - s)^2 on the velocity: a jump counts by how far it may miss.
"""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Generator, Tensor, nn

from kaccore.distill.endpoint import EndpointDistiller
from kaccore.energy import KineticEnergy, light_cone_bound
from kaccore.guidance import Model
from kaccore.losses import distance
from kaccore.paths import KacPath, Path
from kaccore.sampling import Samples, sample_in_batches
from kaccore.solvers import uniform_times
from kaccore.tensors import ALL, generator_for, left_broadcast, of_shard


def jump(model: Model, x: Tensor, t: Tensor, s: Tensor, labels: Tensor | None = None) -> Tensor:
    """G(x, t, s) = x - (t - s) model(x, t, labels, end=s) for times `t`, `s` (B,)."""
    return x - left_broadcast(t - s, x) * model(x, t, labels, end=s)


class UniformJumps(nn.Module):
    """A student on the uniform grid of `steps` jumps as a velocity `(x, t, labels)`: its Euler
    steps are the jumps."""

    def __init__(self, model: nn.Module, steps: int) -> None:
        super().__init__()
        self.model, self.steps = model, steps

    def forward(self, x: Tensor, t: Tensor, labels: Tensor | None = None) -> Tensor:
        return self.model(x, t, labels, end=(t - 1 / self.steps).clamp_min(0))


class ConsistencyDistiller(EndpointDistiller):
    """The loss of a student `model(x, t, labels, end=s)` over a frozen `teacher(x, t, labels)`.

    `target_model` is the moving average of the student's weights, which the caller keeps up to
    date; it is asked for the target and learns nothing here. The teacher crosses each of its
    `intervals` as EndpointDistiller's does, in `substeps` steps of `solver` with `guidance` (1 =
    none), which the student then carries in one evaluation; `huber` is as there, in image units.
    Raises ValueError as EndpointDistiller does."""

    def __init__(
        self,
        teacher: Model,
        path: Path,
        *,
        target_model: Model,
        intervals: int,
        substeps: int = 1,
        solver: str = "euler",
        guidance: float = 1.0,
        huber: float | None = None,
    ) -> None:
        super().__init__(
            teacher,
            path,
            intervals=intervals,
            substeps=substeps,
            solver=solver,
            guidance=guidance,
            huber=huber,
        )
        self.target_model = target_model

    def loss(
        self,
        student: Model,
        x0: Tensor,
        labels: Tensor | None = None,
        generator: Generator | None = None,
        shard: slice = ALL,
    ) -> Tensor:
        """Mean distance over a batch `x0` (B, ...) in [-1, 1], or one worker's `shard` of it, each
        image at a t_n drawn uniformly."""
        times, shares = self.times.to(x0.device), self.shares.to(x0.device)
        n = torch.randint(len(times) - 1, (len(x0),), generator=generator, device=x0.device)
        t, t_next = times[n], times[n + 1]
        s = t_next * torch.rand(len(x0), generator=generator, device=x0.device)
        x = self.path.sample(x0, t, generator).x
        x, t, t_next, s, labels = of_shard(shard, x, t, t_next, s, labels)
        with torch.no_grad():
            y = self.teach(x, t + shares[:, None] * (t_next - t), labels)
            target = jump(self.target_model, y, t_next, s, labels)
        return distance(jump(student, x, t, s, labels) - target, self.huber)


@torch.no_grad()
def sample_consistency(
    model: Model,
    path: Path,
    shape: Sequence[int],
    *,
    steps: int,
    seed: int,
    gamma: float = 0.0,
    labels: Tensor | None = None,
    first: int = 0,
    batch_size: int | None = None,
) -> Samples:
    """Strategic stochastic sampling (TCD, algorithm 4) of a consistency student in `steps` jumps:
    from each time t of the uniform grid to (1 - gamma) t', t' the next one, then with fresh noise
    to t' (`path.renoise`).

    `gamma` in [0, 1]: 0 draws no noise but the prior's; 1 jumps to data each time, from where the
    fresh noise is exact on every path; between, that of the Kac path is approximate. The noise of
    image k after jump j comes from (seed, "renoise", k, j). The energy is that of the jumps. The
    rest is as in `kaccore.sampling.sample`. Raises ValueError for gamma outside [0, 1], steps < 1,
    or labels of another length."""
    if not 0 <= gamma <= 1:
        raise ValueError(f"gamma = {gamma!r}: expected a share in [0, 1]")
    times = uniform_times(steps)

    def draw(x: Tensor, labels: Tensor | None, indices: Sequence[int]) -> Samples:
        energy = torch.zeros(len(x), device=x.device)
        watch = KineticEnergy(
            lambda x, t: model(x, t, labels, end=s.expand(len(x))), light_cone_bound(path)
        )
        for j, (t, t_next) in enumerate(pairwise(times.to(x.device))):
            s = (1 - gamma) * t_next
            before, x = x, x - (t - s) * watch(x, t.expand(len(x)))
            energy += (before - x).flatten(1).float().square().sum(1) / (2 * (t - s))
            if s < t_next:
                x = _renoised(
                    path, x, s, t_next, [generator_for(seed, "renoise", k, j) for k in indices]
                )
        return Samples(x, len(watch.squares), energy, watch.summary(times))

    return sample_in_batches(draw, model, path, shape, seed, labels, first, batch_size)


def _renoised(
    path: Path, x: Tensor, s: Tensor, t: Tensor, generators: Sequence[Generator]
) -> Tensor:
    """`x` taken from `s` to `t`, each image with a generator of its own, on the CPU as the prior is
    drawn."""
    if isinstance(path, KacPath):  # whose draws are many small operations, the same for all at once
        return path.renoise(x.cpu(), s.cpu(), t.cpu(), list(generators)).to(x.device)
    images = zip(x.cpu().split(1), generators, strict=True)
    return torch.cat([path.renoise(image, s.cpu(), t.cpu(), g) for image, g in images]).to(x.device)
