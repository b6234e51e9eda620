"""Whether a path is in the folder of the training images: what a run writes there would be read as
an image."""

import os
from collections.abc import Iterable
from pathlib import Path

from orchestrator.methods.dataset_kind import DatasetKind


def is_among_images(path: str | os.PathLike[str], data: DatasetKind) -> bool:
    """Whether a file at `path`, which need not exist, would be read as an image of `data`. Names
    that begin with a dot are not read."""
    folder = data.images_folder()
    if folder is None:
        return False
    root = os.path.realpath(folder)
    real = Path(os.path.realpath(path))
    if not os.path.isdir(root) or not real.is_relative_to(root):
        return False
    return not any(part.startswith(".") for part in real.relative_to(root).parts)


def enclosing_root(path: str | os.PathLike[str], datasets: Iterable[DatasetKind]) -> str:
    """The first `data.root` of `datasets` for whose image a file at `path` would be read; empty
    where there is none."""
    for data in datasets:
        if is_among_images(path, data):
            return data.root_folder
    return ""
