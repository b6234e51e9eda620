"""Data sets that lie in a folder, `root`: read by torchvision's readers once, and from a cache file
from then on.

| name            | images                                              | expected in `root`                           |
|-----------------|-----------------------------------------------------|----------------------------------------------|
| cifar10         | 50,000 (training) of 32x32, 10 classes, 0.15 GB     | cifar-10-batches-py/                         |
| celeba64        | 162,770 (training) of 64x64, unlabelled, 2.0 GB     | celeba/ with its lists and img_align_celeba/ |
| lsun_bedroom256 | 3,033,042 (training) of 256x256, unlabelled, 596 GB | bedroom_train_lmdb/                          |
| folder          | yours, of any size                                  | what `own` reads                             |

The gigabytes are the cache's. It is a file in `cache`, by default `.kaccore` in `root`; the first
two need nothing else once it is there. Each function raises FileNotFoundError for what is missing,
ValueError for what is damaged, both with the way to get it, ConnectionError for a failed download,
PermissionError for a cache that cannot be written."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

from kaccore.colours import rgb
from kaccore.data import own
from kaccore.data.cache import Cached
from kaccore.data.images import ImageData
from kaccore.data.own import files_stamp

REMEDIES = {
    "cifar10": "get cifar-10-python.tar.gz from https://www.cs.toronto.edu/~kriz/cifar.html and unpack it in root, or "
    "set download",
    "celeba64": "get img_align_celeba.zip and the lists of annotations and partitions from "
    "https://mmlab.ie.cuhk.edu.hk/projects/CelebA.html and unpack them in celeba in root, or set download",
    "lsun_bedroom256": "get bedroom_train_lmdb.zip as https://github.com/fyu/lsun says and unpack it in root",
    "folder": "root has to be images, or a folder of images for each class, or such a folder as an archive (.zip, "
    ".tar), an array (.npz, .npy), or a table (.arrow, .parquet); skip_damaged goes on without damaged images",
}


def cifar10(
    root: Path | None, cache: Path | None = None, download: bool = False, write: bool = True
) -> ImageData:
    """CIFAR-10's training images as they are. Source: Krizhevsky, "Learning Multiple Layers of
    Features", 2009."""
    with explained("cifar10"):
        here = existing(root, download)
        return Cached("cifar10", here, cache, {}).images(
            lambda: _readers().cifar10(here, download), write
        )


def celeba64(
    root: Path | None, cache: Path | None = None, download: bool = False, write: bool = True
) -> ImageData:
    """CelebA's aligned training images: of 178x218 the centre of 140x140, bilinear to 64x64.

    So does Score-SDE (arXiv 2011.13456, its `datasets.py`). Others crop 148 or, as DDIM, 128 around
    (89, 121): numbers compare at equal crops only. Source: Liu et al., arXiv 1411.7766. The
    download needs the package gdown."""
    with explained("celeba64"):
        here = existing(root, download)
        return Cached("celeba64", here, cache, {}).images(
            lambda: _readers().celeba64(here, download), write
        )


def lsun_bedroom256(
    root: Path | None, cache: Path | None = None, limit: int | None = None, write: bool = True
) -> ImageData:
    """LSUN's bedrooms for training: the centre square at 256x256, bicubic. Source: Yu et al., arXiv
    1506.03365.

    The cache of all of them takes 596 GB and an hour or two to write. `limit` takes the first so
    many in the order of their keys, which are hashes: as good as drawn at random. Raises ValueError
    for a limit below 1."""
    if limit is not None and limit < 1:
        raise ValueError(f"lsun_bedroom256: limit is {limit}, expected 1 or more")
    with explained("lsun_bedroom256"):
        here = existing(root)
        return bedrooms(here, cache, limit).images(
            lambda: _readers().lsun_bedroom256(here, limit), write
        )


def bedrooms(root: Path, cache: Path | None, limit: int | None) -> Cached:
    """Where LSUN's bedrooms are kept once they are decoded."""
    stamp = files_stamp(root, (root / "bedroom_train_lmdb").glob("data.mdb"))
    return Cached("lsun_bedroom256", root, cache, {"limit": limit}, stamp)


def folder(
    root: Path | None,
    cache: Path | None = None,
    size: int | None = None,
    background: str = "white",
    split: str | None = None,
    skip_damaged: bool = False,
    write: bool = True,
) -> ImageData:
    """Any images: the centre square at `size` x `size`, bicubic, in three channels, in the order of
    their paths.

    Folders in `root` are classes, in the order of their names; images right in `root` are
    unlabelled. `root` may also be an archive of such a folder, an array file, or Arrow or Parquet
    files, see `own`. What is transparent is composed on `background`; `split` takes the folder, or
    the part, of that name alone; with `skip_damaged` images that cannot be decoded are left out.
    What was done stands in the notes. Where files are added, removed or changed, all are read
    again. Raises ValueError for no size, or one below 1, for what is no colour, and for damaged
    images."""
    if size is None or size < 1:
        raise ValueError(
            f"folder: size is {size}, expected the pixels a side that its images are to have"
        )
    colour = background_colour(background)
    with explained("folder"):
        own_images = own.look_up(existing(root, file=True), split, cache)
        kept = own_images.cached(size, colour, skip_damaged)
        return own_images.told(
            kept.images(lambda: own_images.source(size, colour, skip_damaged, kept.folder), write)
        )


def background_colour(text: str) -> tuple[int, int, int]:
    """The colour that `background` means; raises ValueError where it is none."""
    try:
        return rgb(text)
    except ValueError as error:
        raise ValueError(f"folder: background: {error}") from None


def _readers() -> Any:
    return import_module("kaccore.data.readers")  # with torchvision, seconds that a cache spares


def existing(root: Path | None, download: bool = False, file: bool = False) -> Path:
    """`root`, a folder, or with `file` a file, that is there or can be made by a download; raises
    where it is not."""
    if root is None:
        raise ValueError("root is missing, the folder with the data")
    if not root.is_dir() and not download and not (file and root.exists()):
        raise FileNotFoundError(f"there is no folder {root}")
    return root


@contextmanager
def explained(name: str) -> Iterator[None]:
    """What is missing or damaged, with the data set's name and the way to get it."""
    try:
        yield
    except (FileNotFoundError, ConnectionError, ValueError) as error:
        kind = next(
            k for k in (FileNotFoundError, ConnectionError, ValueError) if isinstance(error, k)
        )
        raise kind(f"{name}: {error}; {REMEDIES[name]}") from error
