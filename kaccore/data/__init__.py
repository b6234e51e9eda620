"""Data sets by name: 8-bit images, or points, labels if there are any, and a fingerprint of their content.

A room for another data set is one function, whose parameters are the settings it takes, and one line in `DATASETS`.
"""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable
from pathlib import Path

from kaccore.data.images import ImageData, from_uint8, to_uint8
from kaccore.data.on_disk import celeba64, cifar10, folder, lsun_bedroom256
from kaccore.data.packaged import digits, mnist
from kaccore.data.points import PointData, grid9

__all__ = ["DATASETS", "ImageData", "PointData", "from_uint8", "load", "to_uint8"]

DATASETS: dict[str, Callable[..., ImageData]] = {
    "digits": digits,
    "mnist": mnist,
    "cifar10": cifar10,
    "celeba64": celeba64,
    "lsun_bedroom256": lsun_bedroom256,
    "folder": folder,
    "grid9": grid9,
}


def load(
    name: str,
    root: str | Path | None = None,
    *,
    size: int | None = None,
    limit: int | None = None,
    download: bool = False,
    cache: str | Path | None = None,
) -> ImageData:
    """The data set called `name`.

    root      the folder with its files, for those that are not part of a package
    size      pixels a side, for `folder`
    limit     only the first so many images, for `lsun_bedroom256`
    download  fetch what is missing in root, for `cifar10` and `celeba64`
    cache     the folder of decoded images, by default `.kaccore` in root

    Raises ValueError for an unknown name or a setting that this one does not take, and what `on_disk` says.
    """
    if name not in DATASETS:
        near = difflib.get_close_matches(name, DATASETS, n=1, cutoff=0.4)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"unknown data set {name!r}; valid names: {', '.join(sorted(DATASETS))}{hint}")
    taken = inspect.signature(DATASETS[name]).parameters
    settings = {"size": size, "limit": limit, "download": download}
    for key, value in settings.items():
        if key not in taken and value is not None and value is not False:
            raise ValueError(f"{name} takes no {key}, got {key}={value!r}")
    places = {"root": _path(root), "cache": _path(cache)}  # what comes with a package needs none, and minds none
    return DATASETS[name](**{key: value for key, value in {**places, **settings}.items() if key in taken})


def _path(place: str | Path | None) -> Path | None:
    return None if place is None else Path(place).expanduser()
