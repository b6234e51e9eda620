"""What must not be written where the training images of a folder lie: it would be read as one of
them."""

import os
from collections.abc import Iterable
from pathlib import Path

from orchestrator.settings.addresses import expanded
from orchestrator.settings.blocks import Data


def is_read(place: str | os.PathLike[str], data: Data) -> bool:
    """Whether what lies at `place`, there or not, is among what is read as the images of `data`.
    Names that begin with a dot are not looked at."""
    if data.name != "folder" or data.root is None:
        return False
    root = os.path.realpath(os.path.join(expanded(data.root), data.split or ""))
    real = Path(os.path.realpath(place))
    if not os.path.isdir(root) or not real.is_relative_to(root):
        return False
    return not any(part.startswith(".") for part in real.relative_to(root).parts)


def root_that_reads(place: str | os.PathLike[str], asked: Iterable[Data]) -> str:
    """The first `data.root` whose images `place` would be among; empty where there is none."""
    return next((data.root for data in asked if data.root is not None and is_read(place, data)), "")
