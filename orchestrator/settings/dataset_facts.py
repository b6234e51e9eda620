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


DATA_FACTS = {
    "digits": DataFacts(1, 8, 10, 1797, packaged=True),
    "mnist": DataFacts(1, 28, 10, 5000, packaged=True),
    "cifar10": DataFacts(3, 32, 10, 50_000, fetched=True),
    "celeba64": DataFacts(3, 64, 0, 162_770, fetched=True),
    "lsun_bedroom256": DataFacts(3, 256, 0, None),  # 3,033,042, or data.limit
    "folder": DataFacts(3, None, None, None),
    "grid9": DataFacts(2, 1, 9, 20_000, packaged=True, points=True),
}
