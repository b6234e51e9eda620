"""From noise to images: prior + guidance + solver, with one seed per image and an honest NFE.

Image number k of a seed is drawn from (seed, "prior", k): it does not depend on how many are asked
for, on the batch size or on the device that made the others."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from kaccore.energy import KineticEnergy, TrajectorySummary, light_cone_bound
from kaccore.guidance import GuidedVelocity, Model
from kaccore.paths import KacPath, Path
from kaccore.shaping import ShapedVelocity
from kaccore.solvers import SOLVERS, uniform_times
from kaccore.tensors import generator_for
from kaccore.tone import tone_of

MIN_BATCH = (
    16  # smaller matrix products take other kernels, whose rounding differs: pad them up to this
)
PIXELS_PER_BATCH = (
    2**19
)  # 170 colour images of 32x32: activations stay within a few GB; MIN_BATCH at 256x256


@dataclass(frozen=True, eq=False)
class Samples:
    """`images` (N, C, H, W) float in about [-1, 1]; `nfe` network evaluations per image, counted at
    the network; `kinetic_path_energy` (N,), see `diagnostics.KineticEnergy`, and `trajectory`, what
    else it saw of each image's way (None for no images, and where nothing watched). Unpacks as `images,
    nfe = sample(...)`."""

    images: Tensor
    nfe: int
    kinetic_path_energy: Tensor
    trajectory: TrajectorySummary | None = None

    def __iter__(self) -> Iterator[Any]:
        return iter((self.images, self.nfe))


@torch.no_grad()
def sample(
    model: Model,
    path: Path,
    shape: Sequence[int],
    *,
    solver: str = "euler",
    steps: int,
    seed: int,
    labels: Tensor | None = None,
    guidance: float = 1.0,
    shaping: float = 0.0,
    times: Tensor | None = None,
    first: int = 0,
    batch_size: int | None = None,
) -> Samples:
    """Draw images number `first` ... `first + N - 1` of `seed`, shape (N, C, H, W), in `steps`
    equal intervals, or on the grid `times` (steps + 1,), decreasing from 1.

    `labels` is (N,) int64 or None; guidance other than 1 needs it. `shaping`: see `ShapedVelocity`.
    `batch_size` bounds memory and changes nothing else. The work is done where the model's
    parameters are; results are on the CPU. A module is put into evaluation mode and back. Raises
    ValueError for an unknown solver, steps < 1, a grid of another length, labels of another length
    or a shaping outside [0, 1). The images of a calibrated model end on its tone curve, see
    `kaccore.tone`."""
    if solver not in SOLVERS:
        raise ValueError(f"solver = {solver!r}: expected one of {', '.join(SOLVERS)}")
    times = uniform_times(steps) if times is None else times
    if len(times) != steps + 1:
        raise ValueError(f"{len(times)} times for {steps} steps: expected {steps + 1}")

    def draw(x: Tensor, labels: Tensor | None, indices: Sequence[int]) -> Samples:
        velocity = GuidedVelocity(model, labels, guidance)
        shaped = ShapedVelocity(velocity, shaping) if shaping else velocity
        energy = KineticEnergy(shaped, light_cone_bound(path, guidance) * (1 + shaping))
        images = SOLVERS[solver](energy, x, times.to(x.device))
        return Samples(images, velocity.nfe, energy.total(times), energy.summary(times))

    return sample_in_batches(draw, model, path, shape, seed, labels, first, batch_size)


Draw = Callable[
    [Tensor, Tensor | None, Sequence[int]], Samples
]  # (prior noise, labels, their numbers) -> images


def sample_in_batches(
    draw: Draw, model: Model, path: Path, shape: Sequence[int], seed: int,
    labels: Tensor | None, first: int, batch_size: int | None,
) -> Samples:  # fmt: skip
    """What every sampler shares: `draw` takes the prior noise of images number `first` ... `first +
    N - 1`, batch by batch, to images. See `sample` for the arguments and for what does not change
    the result."""
    if labels is not None and len(labels) != shape[0]:
        raise ValueError(f"{len(labels)} labels for {shape[0]} images")
    pixels = max(1, torch.Size(shape[1:]).numel())
    batch_size = batch_size or max(MIN_BATCH, min(512, PIXELS_PER_BATCH // pixels))
    with evaluating(model):
        batches = [
            _draw_batch(draw, model, path, range(k, min(k + batch_size, first + shape[0])), shape[1:], seed,
                        None if labels is None else labels[k - first : k - first + batch_size])
            for k in range(first, first + shape[0], batch_size)
        ]  # fmt: skip
    if not batches:
        return Samples(torch.zeros(tuple(shape)), 0, torch.zeros(0))
    watched = [b.trajectory for b in batches if b.trajectory]
    return Samples(torch.cat([b.images for b in batches]), batches[0].nfe,
                   torch.cat([b.kinetic_path_energy for b in batches]),
                   TrajectorySummary.join(watched) if watched else None)  # fmt: skip


@contextmanager
def evaluating(model: Model) -> Iterator[None]:
    """A module in evaluation mode, put back as it was."""
    was_training = isinstance(model, nn.Module) and model.training
    if isinstance(model, nn.Module):
        model.eval()
    try:
        yield
    finally:
        if isinstance(model, nn.Module):
            model.train(was_training)


def prior_images(
    path: Path, seed: int, indices: Sequence[int], image_shape: Sequence[int]
) -> Tensor:
    """The starting noise of images number `indices`, each from a generator of its own:
    (len(indices), C, H, W)."""
    generators = [generator_for(seed, "prior", k) for k in indices]
    if isinstance(path, KacPath):  # whose draws are many small operations, the same for all at once
        return path.prior((len(indices), *image_shape), generators)
    return torch.cat([path.prior((1, *image_shape), each) for each in generators])


def _draw_batch(
    draw: Draw,
    model: Model,
    path: Path,
    indices: range,
    image_shape: Sequence[int],
    seed: int,
    labels: Tensor | None,
) -> Samples:
    weights = model.parameters() if isinstance(model, nn.Module) else iter(())
    device = next((w.device for w in weights), torch.device("cpu"))
    count, padding = len(indices), max(0, MIN_BATCH - len(indices))
    x = prior_images(path, seed, indices, image_shape)
    x = torch.cat([x, x[-1:].expand(padding, *x.shape[1:])]).to(device)
    if labels is not None:
        labels = torch.cat([labels, labels[-1:].expand(padding)]).to(device)
    drawn = draw(x, labels, [*indices, *[indices[-1]] * padding])
    images = drawn.images[:count].float()
    summary = drawn.trajectory and drawn.trajectory.first(count)
    if summary is not None:
        summary = replace(summary, reach=images.flatten(1).abs().amax(1).cpu())
    tone = tone_of(model)
    if tone is not None:
        images = tone(images)
    return Samples(images.cpu(), drawn.nfe, drawn.kinetic_path_energy[:count].cpu(), summary)
