"""The way from noise to image as an animation: where the samples are at every step of the
solver."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from kaccore.data import ImageData, PointData
from kaccore.files import write_bytes
from orchestrator.work import pictures
from orchestrator.work.marks import MADE

SECONDS, HELD = 3.0, 2.0  # the way, and the images at its end
# seconds a frame: faster ones are not shown as meant, slower ones are tedious
FASTEST = 0.04
SLOWEST = 0.5


class Watched(nn.Module):
    """A network that keeps what it is asked about: the positions of the images that go through
    it."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.asked: list[Tensor] = []

    def forward(self, x: Tensor, t: Tensor, *told: Any, **named: Any) -> Tensor:
        self.asked.append(x.float().cpu())
        return self.network(x, t, *told, **named)

    def positions(self, nfe: int, evaluations: int, guided: bool, images: Tensor) -> Tensor:
        """Where the samples were before each step, and last the `images` (N, ...): (steps + 1, N,
        ...).

        Sampling costs `nfe` evaluations an image and a step of its solver `evaluations` calls, the
        first of which is about where the step starts. A guided call asks about each image twice.
        """
        calls = nfe // 2 if guided else nfe
        batches = [
            self.asked[k : k + calls : evaluations] for k in range(0, len(self.asked), calls)
        ]
        if guided:
            batches = [[x[: len(x) // 2] for x in batch] for batch in batches]
        steps = [
            torch.cat(parts)[: len(images)] for parts in zip(*batches, strict=True)
        ]  # less what filled a batch up
        return torch.stack([*steps, images])


def save_way(path: Path, positions: Tensor, data: ImageData, captions: Sequence[str] = ()) -> None:
    """`positions` (steps + 1, N, C, H, W) as a GIF, a grid or scatter a frame; the last one stays a
    while. `captions`: what is written below each image, if anything."""
    from PIL import Image

    mode = "L" if data.channels == 1 else "RGB"  # a gray palette is exact
    frames = [
        Image.open(io.BytesIO(_png(data.from_floats(each), data, captions))).convert(mode)
        for each in positions
    ]
    buffer = io.BytesIO()
    frames[0].save(
        buffer,
        "GIF",
        save_all=True,
        append_images=frames[1:],
        duration=durations(len(frames)),
        loop=0,
        comment=MADE,
    )
    write_bytes(path, buffer.getvalue())


def durations(frames: int) -> Sequence[int]:
    """Milliseconds of each frame."""
    each = min(SLOWEST, max(FASTEST, SECONDS / max(1, frames - 1)))
    return [*[round(1000 * each)] * (frames - 1), round(1000 * HELD)]


def _png(samples: Tensor, data: ImageData, captions: Sequence[str]) -> bytes:
    if isinstance(data, PointData):
        return pictures.scatter_png(samples.flatten(1), data.points)
    return pictures.grid_png(samples, captions=captions)
