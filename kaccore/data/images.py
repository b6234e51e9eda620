"""Images with optional labels, a fingerprint of their content, and the conversion to a model's
numbers and back."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from kaccore import arrays
from kaccore.tensors import sent


@dataclass(frozen=True, eq=False)
class ImageData:
    """Images of 8 bits a channel, in memory or mapped from a file.

    name         the data set's name, as for `load`
    images       (N, C, H, W) uint8, square, C = 1 or 3. Those of a mapped file are read-only: writing to them ends the
                 process
    labels       (N,) int64 in [0, classes), or None
    class_names  one text for each class; empty without labels
    notes        lines about what was done to the images, warnings ("warning: ") first; not part of the fingerprint

    Raises ValueError if these do not fit together.
    """

    name: str
    images: Tensor
    labels: Tensor | None = None
    class_names: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        self._check_images()
        shape = tuple(self.images.shape)
        if (self.labels is None) != (not self.class_names):
            raise ValueError(f"{self.name}: labels and class_names come together or not at all")
        if self.labels is None:
            return
        if self.labels.dtype != torch.int64 or tuple(self.labels.shape) != shape[:1]:
            raise ValueError(
                f"{self.name}: labels of shape {tuple(self.labels.shape)} and {self.labels.dtype}; "
                f"expected ({shape[0]},) int64"
            )
        if len(self) and not 0 <= int(self.labels.min()) <= int(self.labels.max()) < self.classes:
            raise ValueError(
                f"{self.name}: labels from {int(self.labels.min())} to {int(self.labels.max())}; "
                f"expected 0 to {self.classes - 1}, one number for each class name"
            )

    def _check_images(self) -> None:
        shape = tuple(self.images.shape)
        if (
            self.images.dtype != torch.uint8
            or len(shape) != 4
            or shape[1] not in (1, 3)
            or shape[2] != shape[3]
        ):
            raise ValueError(
                f"{self.name}: images of shape {shape} and {self.images.dtype}; expected square uint8 images "
                "(N, 1 or 3, H, H)"
            )

    def __len__(self) -> int:
        return self.images.shape[0]

    @property
    def channels(self) -> int:
        """1 for grayscale, 3 for colour."""
        return self.images.shape[1]

    @property
    def size(self) -> int:
        """Height and width in pixels."""
        return self.images.shape[2]

    @property
    def classes(self) -> int:
        """The number of classes; 0 = unlabelled."""
        return len(self.class_names)

    @cached_property
    def fingerprint(self) -> str:
        """sha256 (hex) over shape and bytes of images and labels: equal for equal content, whatever
        the name."""
        return arrays.fingerprint(
            *(None if t is None else t.cpu().numpy() for t in (self.images, self.labels))
        )

    def batch(self, index: Tensor, device: str | torch.device = "cpu") -> Tensor:
        """Some images as a model sees them: (B,) int64 -> (B, C, H, W) float32 in [-1, 1]. They are
        copied to a GPU as bytes, asynchronously."""
        return from_uint8(sent(self.images[index.cpu()], device))

    def floats(self) -> Tensor:
        """All images as a model sees them: (N, C, H, W) float32 in [-1, 1]. For small sets: all are
        in memory."""
        return from_uint8(self.images)

    def from_floats(self, samples: Tensor) -> Tensor:
        """A model's samples in the format of `images`, the inverse of `floats`; see `to_uint8`."""
        return to_uint8(samples)


def from_uint8(images: Tensor) -> Tensor:
    """uint8 in [0, 255] -> float32 in [-1, 1], any shape: x / 127.5 - 1."""
    if images.dtype != torch.uint8:
        raise ValueError(f"images are {images.dtype}; expected uint8")
    return images.to(torch.float32) / 127.5 - 1


def to_uint8(images: Tensor) -> Tensor:
    """Float in [-1, 1] -> uint8 in [0, 255], any shape, rounded; values outside are clamped. The
    inverse of `from_uint8`.

    Raises ValueError for integers and for NaN, which would otherwise become some pixel value
    silently."""
    if not images.is_floating_point():
        raise ValueError(f"images are {images.dtype}; expected floats in [-1, 1]")
    if images.isnan().any():
        broken = int(images.isnan().reshape(len(images) if images.ndim else 1, -1).any(1).sum())
        raise ValueError(
            f"{broken} of {len(images) if images.ndim else 1} images contain NaN: their sampling diverged; "
            "use more steps or a smaller learning rate"
        )
    # Half precision cannot represent all pixel values near 255.
    return (images.to(torch.float32) * 127.5 + 127.5).round().clamp(0, 255).to(torch.uint8)
