"""From noise to images: prior + guidance + solver, with one seed per image and an honest NFE.

Image number k of a seed is drawn from (seed, "prior", k): it does not depend on how many are asked for, on the batch
size or on the device that made the others.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from kaccore.diagnostics import KineticEnergy
from kaccore.guidance import GuidedVelocity, Model
from kaccore.paths import Path
from kaccore.solvers import SOLVERS, uniform_times
from kaccore.tensors import generator_for

MIN_BATCH = 16  # smaller matrix products take other kernels, whose rounding differs: pad them up to this
PIXELS_PER_BATCH = 2**19  # 170 colour images of 32x32: activations stay within a few GB; MIN_BATCH at 256x256


@dataclass(frozen=True, eq=False)
class Samples:
    """`images` (N, C, H, W) float in about [-1, 1]; `nfe` network evaluations per image, counted at the network;
    `kinetic_path_energy` (N,), see `diagnostics.KineticEnergy`. Unpacks as `images, nfe = sample(...)`."""

    images: Tensor
    nfe: int
    kinetic_path_energy: Tensor

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
    first: int = 0,
    batch_size: int | None = None,
) -> Samples:
    """Draw images number `first` ... `first + N - 1` of `seed`, shape (N, C, H, W), in `steps` equal intervals.

    `labels` is (N,) int64 or None; guidance other than 1 needs it. `batch_size` bounds memory and changes nothing
    else. The work is done where the model's parameters are; results are on the CPU. A module is put into evaluation
    mode and back. Raises ValueError for an unknown solver, steps < 1, or labels of another length.
    """
    if solver not in SOLVERS:
        raise ValueError(f"solver = {solver!r}: expected one of {', '.join(SOLVERS)}")
    if labels is not None and len(labels) != shape[0]:
        raise ValueError(f"{len(labels)} labels for {shape[0]} images")
    times = uniform_times(steps)
    pixels = max(1, torch.Size(shape[1:]).numel())
    batch_size = batch_size or max(MIN_BATCH, min(512, PIXELS_PER_BATCH // pixels))
    with evaluating(model):
        batches = [
            _sample_batch(model, path, range(k, min(k + batch_size, first + shape[0])), shape[1:], solver, times, seed,
                          None if labels is None else labels[k - first : k - first + batch_size], guidance)
            for k in range(first, first + shape[0], batch_size)
        ]  # fmt: skip
    if not batches:
        return Samples(torch.zeros(tuple(shape)), 0, torch.zeros(0))
    return Samples(torch.cat([b.images for b in batches]), batches[0].nfe,
                   torch.cat([b.kinetic_path_energy for b in batches]))  # fmt: skip


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


def prior_images(path: Path, seed: int, indices: Sequence[int], image_shape: Sequence[int]) -> Tensor:
    """The starting noise of images number `indices`, each from a generator of its own: (len(indices), C, H, W)."""
    return torch.cat([path.prior((1, *image_shape), generator_for(seed, "prior", k)) for k in indices])


def _sample_batch(
    model: Model, path: Path, indices: range, image_shape: Sequence[int], solver: str, times: Tensor,
    seed: int, labels: Tensor | None, guidance: float,
) -> Samples:  # fmt: skip
    weights = model.parameters() if isinstance(model, nn.Module) else iter(())
    device = next((w.device for w in weights), torch.device("cpu"))
    count, padding = len(indices), max(0, MIN_BATCH - len(indices))
    x = prior_images(path, seed, indices, image_shape)
    x = torch.cat([x, x[-1:].expand(padding, *x.shape[1:])]).to(device)
    if labels is not None:
        labels = torch.cat([labels, labels[-1:].expand(padding)]).to(device)
    velocity = GuidedVelocity(model, labels, guidance)
    energy = KineticEnergy(velocity)
    x = SOLVERS[solver](energy, x, times.to(device))
    return Samples(x[:count].float().cpu(), velocity.nfe, energy.total(times)[:count].cpu())
