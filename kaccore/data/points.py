"""Points in the plane as a data set: training and sampling work on them as on images."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from kaccore.data.images import ImageData
from kaccore.data.mixture import CENTRES, grid_of_gaussians
from kaccore.tensors import sent

COUNT, SEED = 20_000, 0  # of the draw that is the data set


@dataclass(frozen=True, eq=False)
class PointData(ImageData):
    """Points as images of one pixel: `images` (N, 2, 1, 1) float32 in [-1, 1], a channel for each
    coordinate.

    Otherwise as `ImageData`; nothing is rounded to 8 bits.
    """

    def _check_images(self) -> None:
        shape, dtype = tuple(self.images.shape), self.images.dtype
        if dtype != torch.float32 or shape[1:] != (2, 1, 1):
            raise ValueError(
                f"{self.name}: points of shape {shape} and {dtype}; expected float32 (N, 2, 1, 1)"
            )
        if len(self.images) and not float(self.images.abs().max()) <= 1:  # NaN is refused too
            raise ValueError(
                f"{self.name}: points up to {float(self.images.abs().max())}, expected within [-1, 1]"
            )

    @property
    def points(self) -> Tensor:
        """The coordinates, (N, 2) float32."""
        return self.images.flatten(1)

    def batch(self, index: Tensor, device: str | torch.device = "cpu") -> Tensor:
        """Some points as a model sees them: (B,) int64 -> (B, 2, 1, 1) float32."""
        return sent(self.images[index.cpu()], device)

    def floats(self) -> Tensor:
        """All points as a model sees them."""
        return self.images

    def from_floats(self, samples: Tensor) -> Tensor:
        """A model's samples unchanged. Raises ValueError if they are not finite."""
        if not samples.isfinite().all():
            raise ValueError("points are not finite: their sampling diverged; use more steps")
        return samples


def grid9() -> PointData:
    """20,000 points of nine narrow Gaussians on a 3x3 grid, see `data.mixture`: the density is
    known exactly."""
    points, labels = grid_of_gaussians(COUNT, SEED)
    return PointData(
        "grid9", points[:, :, None, None], labels, tuple(map(str, range(len(CENTRES))))
    )
