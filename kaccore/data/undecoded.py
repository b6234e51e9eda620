"""Images of a folder, archive, array file or table that have not been decoded yet."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

Item = BinaryIO | NDArray[np.generic]


class WrongRangeError(ValueError):
    """An image has numbers outside the allowed range: the whole set is scaled differently, so this
    is not damage to one image."""


@dataclass(frozen=True, eq=False)
class UndecodedImages:
    """`count` images that can be read one at a time.

    item      index -> an open image file, or an array (H, W) or (H, W, C)
    place     index -> where this image is, for messages
    labels    (N,) int64, or None
    formats   ending -> number of images with it
    left_out  ending -> number of other files with it
    notes     lines about what was found
    cheap     indices of images whose size can be read quickly
    close     called when all images are read
    """

    count: int
    item: Callable[[int], Item]
    place: Callable[[int], str]
    labels: NDArray[np.int64] | None = None
    class_names: tuple[str, ...] = ()
    formats: Counter[str] | None = None
    left_out: Counter[str] | None = None
    notes: tuple[str, ...] = ()
    cheap: Sequence[int] = ()
    close: Callable[[], None] = lambda: None


def evenly_spaced(count: int, most: int) -> list[int]:
    """At most `most` indices below `count`, evenly spaced."""
    if count <= most:
        return list(range(count))
    return [i * count // most for i in range(most)]
