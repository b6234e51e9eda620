"""What is known of each data set before its files are read."""

from dataclasses import dataclass


@dataclass(frozen=True)
class DataFacts:
    """What is known of a data set before it is read; None: it depends on the files."""

    channels: int
    size: int | None  # pixels a side
    classes: int | None  # 0: unlabelled
    count: int | None  # images
    packaged: bool = False  # comes with a package, needs no root
    fetched: bool = False  # can be downloaded
    points: bool = False  # in the plane: images of one pixel whose channels are coordinates
