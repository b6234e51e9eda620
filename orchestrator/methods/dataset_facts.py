"""Facts of each data set that are known before its files are read."""

from dataclasses import dataclass


@dataclass(frozen=True)
class DataFacts:
    """Facts of a data set that are known before it is read; None: it depends on the files."""

    channels: int
    size: int | None  # pixels a side
    classes: int | None  # 0: unlabelled
    count: int | None  # images
    packaged: bool = False  # shipped with a package, needs no root
    fetched: bool = False  # can be downloaded
    points: bool = False  # in the plane: images of one pixel whose channels are coordinates
