"""Sampling as an animation: the samples at every step of the solver, from noise to images."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from kaccore.data import ImageData, PointData
from kaccore.files import write_bytes
from kaccore.tone import ToneCurve, tone_of
from orchestrator.work import pictures
from orchestrator.work.marks import MADE

SECONDS, LAST_SECONDS = 3.0, 2.0  # of the frames before the last one, and of the last one
# seconds a frame: viewers do not play faster ones correctly, slower ones are tedious
FASTEST = 0.04
SLOWEST = 0.5


class InputRecorder(nn.Module):
    """A network that records its inputs: the positions of the samples at each evaluation."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.inputs: list[Tensor] = []

    @property
    def tone(self) -> ToneCurve | None:
        """The tone curve of the network."""
        return tone_of(self.network)

    def forward(self, x: Tensor, t: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        self.inputs.append(x.float().cpu())
        return self.network(x, t, *args, **kwargs)

    def positions(self, nfe: int, evaluations: int, guided: bool, images: Tensor) -> Tensor:
        """The samples before each step, followed by the `images` (N, ...): (steps + 1, N, ...).

        Sampling costs `nfe` evaluations an image, and a step of its solver `evaluations` calls, the
        first of which is at the start of the step. A guided call evaluates each image twice.
        """
        calls = nfe // 2 if guided else nfe
        batches = []
        for first in range(0, len(self.inputs), calls):
            inputs = self.inputs[first : first + calls : evaluations]
            batches.append([x[: len(x) // 2] for x in inputs] if guided else inputs)
        # [: len(images)] removes the padding of the last batch
        steps = [torch.cat(parts)[: len(images)] for parts in zip(*batches, strict=True)]
        return torch.stack([*steps, images])


def save_animation(
    path: Path, positions: Tensor, data: ImageData, captions: Sequence[str] = ()
) -> None:
    """Write `positions` (steps + 1, N, C, H, W) as a GIF; a frame is a grid or a scatter plot, and
    the last one is shown longer. `captions`: a text below each image, optional."""
    from PIL import Image

    mode = "L" if data.channels == 1 else "RGB"  # a gray palette is exact
    frames = []
    for samples in positions:
        png = _png(data.from_floats(samples), data, captions)
        frames.append(Image.open(io.BytesIO(png)).convert(mode))
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
    seconds = min(SLOWEST, max(FASTEST, SECONDS / max(1, frames - 1)))
    return [*[round(1000 * seconds)] * (frames - 1), round(1000 * LAST_SECONDS)]


def _png(samples: Tensor, data: ImageData, captions: Sequence[str]) -> bytes:
    if isinstance(data, PointData):
        return pictures.scatter_png(samples.flatten(1), data.points)
    return pictures.grid_png(samples, captions=captions)
