"""Data sets by name: 8-bit images or points, labels if there are any, and a fingerprint of their
content.

To add a data set, write one function, whose parameters are the settings it takes, and one line in
`DATASETS`."""

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
    binary: bool = False,
    write: bool = True,
) -> ImageData:
    """The data set called `name`.

    root          the folder with its files, unless it comes with a package
    size          pixels a side, for `folder`
    limit         use only the first so many images, for `lsun_bedroom256`
    download      download missing files into root, for `cifar10` and `celeba64`
    cache         the folder of decoded images, by default `.kaccore` in root
    background    the colour on which transparent images are composed, for `folder`
    split         read only this folder of root, or this part of an array file or table, for `folder`
    skip_damaged  leave out images that cannot be decoded, for `folder`
    binary        make pixels black (below 128) or white, for `digits` and `mnist`
    write         False: write no cache; decoded images are kept in a temporary file

    Raises ValueError for an unknown name or a setting that this data set does not take, and the
    errors that `on_disk` lists."""
    settings = {"size": size, "limit": limit, "download": download, "background": background, "split": split,
                "skip_damaged": skip_damaged, "binary": binary}  # fmt: skip
    taken = _taken(name, settings)
    # data sets that come with a package ignore these
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
    binary: bool = False,
) -> Look:
    """The facts about the data set called `name`, from listing it: hardly anything is decoded,
    nothing is written or downloaded.

    The settings and errors are those of `load`; FileNotFoundError also if a download would be
    needed."""
    settings = {"size": size, "limit": limit, "download": download, "background": background, "split": split,
                "skip_damaged": skip_damaged, "binary": binary}  # fmt: skip
    taken = _taken(name, settings)
    own = {key: value for key, value in settings.items() if key in taken and key != "download"}
    return looking.look(name, DATASETS[name], _path(root), _path(cache), **own)


def _taken(name: str, settings: dict[str, Any]) -> Mapping[str, Any]:
    """The settings that the data set takes. Raises ValueError for other settings that are given,
    and for an unknown name."""
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
