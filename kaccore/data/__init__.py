"""Data sets by name: 8-bit images, or points, labels if there are any, and a fingerprint of their
content.

A room for another data set is one function, whose parameters are the settings it takes, and one
line in `DATASETS`."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from kaccore.data import looking
from kaccore.data.images import ImageData, from_uint8, to_uint8
from kaccore.data.looking import Look
from kaccore.data.on_disk import celeba64, cifar10, folder, lsun_bedroom256
from kaccore.data.packaged import digits, mnist
from kaccore.data.points import PointData, grid9

__all__ = ["DATASETS", "ImageData", "Look", "PointData", "from_uint8", "load", "look", "to_uint8"]

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
    background: str = "white",
    split: str | None = None,
    skip_damaged: bool = False,
    write: bool = True,
) -> ImageData:
    """The data set called `name`.

    root          the folder with its files, for those that are not part of a package
    size          pixels a side, for `folder`
    limit         only the first so many images, for `lsun_bedroom256`
    download      fetch what is missing in root, for `cifar10` and `celeba64`
    cache         the folder of decoded images, by default `.kaccore` in root
    background    the colour on which transparent images are composed, for `folder`
    split         the only folder of root, or part of an array file or table, that is read, for `folder`
    skip_damaged  leave out images that cannot be decoded, for `folder`
    write         False: where there is no cache none is written, what is decoded is kept in a temporary file

    Raises ValueError for an unknown name or a setting that this one does not take, and what
    `on_disk` says."""
    settings = {"size": size, "limit": limit, "download": download, "background": background, "split": split,
                "skip_damaged": skip_damaged}  # fmt: skip
    taken = _taken(name, settings)
    # what comes with a package needs none of these, and minds none
    places = {"root": _path(root), "cache": _path(cache), "write": write}
    return DATASETS[name](
        **{key: value for key, value in {**places, **settings}.items() if key in taken}
    )


def look(
    name: str,
    root: str | Path | None = None,
    *,
    size: int | None = None,
    limit: int | None = None,
    download: bool = False,
    cache: str | Path | None = None,
    background: str = "white",
    split: str | None = None,
    skip_damaged: bool = False,
) -> Look:
    """What the data set called `name` holds, by listing it: hardly anything is decoded, nothing
    written or downloaded.

    The settings are those of `load`. Raises as `load` does; FileNotFoundError also where a download
    would be needed."""
    settings = {"size": size, "limit": limit, "download": download, "background": background, "split": split,
                "skip_damaged": skip_damaged}  # fmt: skip
    taken = _taken(name, settings)
    own = {key: value for key, value in settings.items() if key in taken and key != "download"}
    return looking.look(name, DATASETS[name], _path(root), _path(cache), **own)


def _taken(name: str, settings: dict[str, Any]) -> Mapping[str, Any]:
    """The settings that the data set takes; raises ValueError for others that are given, and for an
    unknown name."""
    if name not in DATASETS:
        near = difflib.get_close_matches(name, DATASETS, n=1, cutoff=0.4)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ValueError(
            f"unknown data set {name!r}; valid names: {', '.join(sorted(DATASETS))}{hint}"
        )
    taken = inspect.signature(DATASETS[name]).parameters
    for key, value in settings.items():
        if key not in taken and value != inspect.signature(load).parameters[key].default:
            raise ValueError(f"{name} takes no {key}, got {key}={value!r}")
    return taken


def _path(place: str | Path | None) -> Path | None:
    return None if place is None else Path(place).expanduser()
