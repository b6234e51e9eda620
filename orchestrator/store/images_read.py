"""What must not be written where the training images of a folder lie: it would be read as one of
them."""

import os
from collections.abc import Iterable
from pathlib import Path

from orchestrator.methods.dataset_kind import DatasetKind


def is_read(place: str | os.PathLike[str], data: DatasetKind) -> bool:
    """Whether what lies at `place`, there or not, is among what is read as the images of `data`.
    Names that begin with a dot are not looked at."""
    folder = data.reads()
    if folder is None:
        return False
    root = os.path.realpath(folder)
    real = Path(os.path.realpath(place))
    if not os.path.isdir(root) or not real.is_relative_to(root):
        return False
    return not any(part.startswith(".") for part in real.relative_to(root).parts)


def root_that_reads(place: str | os.PathLike[str], asked: Iterable[DatasetKind]) -> str:
    """The first `data.root` whose images `place` would be among; empty where there is none."""
    return next((data.root_folder for data in asked if is_read(place, data)), "")
