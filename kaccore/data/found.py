"""Images of one's own that have been found and not been decoded yet, wherever they lie."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

Item = BinaryIO | NDArray[np.generic]


class WrongRangeError(ValueError):
    """Numbers of an image are of another range than it may have: the whole set is scaled otherwise,
    and no image of it is damaged."""


@dataclass(frozen=True, eq=False)
class Found:
    """`count` images that can be read one at a time.

    item      index -> an image file's content, open, or an array (H, W) or (H, W, C)
    place     index -> what holds this image, for messages
    labels    (N,) int64, or None
    formats   ending -> how many images are of it
    left_out  ending -> how many files beside are of it
    notes     lines for people on what was found
    cheap     indices of images whose size can be read quickly
    close     called when all is read
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


def spread(count: int, most: int) -> list[int]:
    """At most `most` indices below `count`, evenly apart."""
    return [i * count // most for i in range(most)] if count > most else list(range(count))
