"""Training images of a sweep's data sets as a network sees them, and how they were changed."""

import io
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from orchestrator.plan.data import DatasetInfo
from orchestrator.store.layout import REAL
from orchestrator.store.stage_result import DamagedError
from orchestrator.sweeps.records import Records

COLUMNS, IMAGES = 8, 64  # of the picture of real images
GAP = 2  # pixels between them


class Panel(NamedTuple):
    """A data set: its name, its facts, and some of its images as a PNG file; None if no reference
    stage has any."""

    name: str
    info: DatasetInfo
    png: bytes | None


def panels(records: Records) -> list[Panel]:
    """A panel for each data set of the sweep, in the order of the trials."""
    plan = records.plan
    return [
        Panel(plan.data_names[info.fingerprint], info, png_of(records, info))
        for info in plan.datasets()
    ]


def png_of(records: Records, info: DatasetInfo) -> bytes | None:
    """Some images of a data set as a PNG file; None if no reference stage has any."""
    for stage in records.plan.stages(("reference",)):
        if stage.data.fingerprint == info.fingerprint and records.store.done(stage.key):
            try:
                return records.store.result(stage.key).content(REAL)
            except FileNotFoundError:  # an earlier version wrote no images
                continue
            except DamagedError as e:
                records.damaged |= e.problems
    return None


def tiles(png: bytes, info: DatasetInfo, count: int) -> NDArray[np.uint8] | None:
    """At most `count` single images (N, H, W, 3) of the picture `png` of images of `info`, spread over
    it, without their captions and at their own size; None if it is laid out otherwise."""
    with Image.open(io.BytesIO(png)) as picture:
        grid = np.asarray(picture.convert("RGB"))
    shown = min(IMAGES, info.count or IMAGES)
    columns, rows = min(COLUMNS, shown), -(-shown // COLUMNS)
    height, width = (
        (side - GAP) / n - GAP for side, n in zip(grid.shape, (rows, columns), strict=False)
    )
    if height != int(height) or width != int(width) or height < width:
        return None
    side, enlarged = int(width), max(1, int(width) // (info.size or int(width)))
    found = []
    for k in range(min(count, shown)):
        row, column = divmod(k * shown // min(count, shown), COLUMNS)
        top, left = GAP + row * (int(height) + GAP), GAP + column * (side + GAP)
        found.append(grid[top : top + side : enlarged, left : left + side : enlarged])
    return np.stack(found)
