"""Data sets in a folder, `root`: decoded once, published ones by torchvision's readers, and then read
from a cache file.

| name            | images                                              | expected in `root`                           |
|-----------------|-----------------------------------------------------|----------------------------------------------|
| cifar10         | 50,000 (training) of 32x32, 10 classes, 0.15 GB     | cifar-10-batches-py/                         |
| celeba64        | 162,770 (training) of 64x64, unlabelled, 2.0 GB     | celeba/ with its lists and img_align_celeba/ |
| lsun_bedroom256 | 3,033,042 (training) of 256x256, unlabelled, 596 GB | bedroom_train_lmdb/                          |
| folder          | yours, of any size                                  | what `user_images` reads                     |

The gigabytes are those of the cache, a file in `cache`, by default `.kaccore` in `root`; the first
two need nothing else once it exists. Each function raises FileNotFoundError for missing files,
ValueError for damaged ones, both with the way to get them, ConnectionError for a failed download,
PermissionError for a cache that cannot be written."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

from kaccore.colours import rgb
from kaccore.data import user_images
from kaccore.data.cache import ImageCache
from kaccore.data.images import ImageData
from kaccore.data.user_images import files_stamp

REMEDIES = {
    "cifar10": "get cifar-10-python.tar.gz from https://www.cs.toronto.edu/~kriz/cifar.html and unpack it in root, or "
    "set download",
    "celeba64": "get img_align_celeba.zip and the lists of annotations and partitions from "
    "https://mmlab.ie.cuhk.edu.hk/projects/CelebA.html and unpack them in celeba in root, or set download",
    "lsun_bedroom256": "get bedroom_train_lmdb.zip as https://github.com/fyu/lsun says and unpack it in root",
    "folder": "root must have images, or a folder of images for each class, or be such a folder as an archive (.zip, "
    ".tar), an array (.npz, .npy), or a table (.arrow, .parquet); skip_damaged leaves out damaged images",
}


def cifar10(
    root: Path | None, cache: Path | None = None, download: bool = False, write: bool = True
) -> ImageData:
    """CIFAR-10's training images, unchanged. Source: Krizhevsky, "Learning Multiple Layers of
    Features", 2009."""
    with remedies_added("cifar10"):
        folder = checked_root(root, download)
        return ImageCache("cifar10", folder, cache, {}).read_or_write(
            lambda: _readers().cifar10(folder, download), write
        )


def celeba64(
    root: Path | None, cache: Path | None = None, download: bool = False, write: bool = True
) -> ImageData:
    """CelebA's aligned training images: of 178x218 the centre of 140x140, bilinear to 64x64.

    As in Score-SDE (arXiv 2011.13456, its `datasets.py`). Others crop 148 or, as DDIM, 128 around
    (89, 121): numbers compare only at equal crops. Source: Liu et al., arXiv 1411.7766. The
    download needs the package gdown."""
    with remedies_added("celeba64"):
        folder = checked_root(root, download)
        return ImageCache("celeba64", folder, cache, {}).read_or_write(
            lambda: _readers().celeba64(folder, download), write
        )


def lsun_bedroom256(
    root: Path | None, cache: Path | None = None, limit: int | None = None, write: bool = True
) -> ImageData:
    """LSUN's bedrooms for training: the centre square at 256x256, bicubic. Source: Yu et al., arXiv
    1506.03365.

    The cache of all of them takes 596 GB and an hour or two to write. `limit` takes the first so
    many in the order of their keys, which are hashes: equivalent to a random choice. Raises
    ValueError for a limit below 1."""
    if limit is not None and limit < 1:
        raise ValueError(f"lsun_bedroom256: limit is {limit}, expected 1 or more")
    with remedies_added("lsun_bedroom256"):
        folder = checked_root(root)
        return bedroom_cache(folder, cache, limit).read_or_write(
            lambda: _readers().lsun_bedroom256(folder, limit), write
        )


def bedroom_cache(root: Path, cache: Path | None, limit: int | None) -> ImageCache:
    """The cache of LSUN's decoded bedrooms."""
    stamp = files_stamp(root, (root / "bedroom_train_lmdb").glob("data.mdb"))
    return ImageCache("lsun_bedroom256", root, cache, {"limit": limit}, stamp)


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

    Folders in `root` are classes, in the order of their names; images directly in `root` are
    unlabelled. `root` may also be an archive of such a folder, an array file, or Arrow or Parquet
    files, see `user_images`. Transparent pixels are composed on `background`; `split` reads only the
    folder, or the part, of that name; `skip_damaged` leaves out images that cannot be decoded. The
    notes say what was done. If files are added, removed or changed, all are decoded again. Raises
    ValueError for a missing size or one below 1, for an invalid colour, and for damaged images."""
    if size is None or size < 1:
        raise ValueError(size_message(size))
    colour = background_colour(background)
    with remedies_added("folder"):
        images = user_images.find_images(checked_root(root, file=True), split, cache)
        image_cache = images.image_cache(size, colour, skip_damaged)
        data = image_cache.read_or_write(
            lambda: images.source(size, colour, skip_damaged, image_cache.folder), write
        )
        return images.with_notes(data)


def size_message(size: int | None) -> str:
    """The message about a missing or wrong size of a folder's images."""
    return f"folder: size is {size}, expected the pixels a side of its images"


def background_colour(text: str) -> tuple[int, int, int]:
    """The RGB values of `background`; raises ValueError for an invalid colour."""
    try:
        return rgb(text)
    except ValueError as error:
        raise ValueError(f"folder: background: {error}") from None


def _readers() -> Any:
    return import_module(
        "kaccore.data.readers"
    )  # imports torchvision, which takes seconds; not needed with a cache


def checked_root(root: Path | None, download: bool = False, file: bool = False) -> Path:
    """`root`, if it is a folder, or with `file` a file, or if a download can create it. Raises
    ValueError without a root, FileNotFoundError if it does not exist."""
    if root is None:
        raise ValueError("root is missing: give the folder with the data")
    if not root.is_dir() and not download and not (file and root.exists()):
        raise FileNotFoundError(f"there is no folder {root}")
    return root


@contextmanager
def remedies_added(name: str) -> Iterator[None]:
    """Add the data set's name, and the way to get its files, to errors about missing and damaged
    ones."""
    try:
        yield
    except (FileNotFoundError, ConnectionError, ValueError) as error:
        kinds = (FileNotFoundError, ConnectionError, ValueError)
        kind = next(kind for kind in kinds if isinstance(error, kind))
        raise kind(f"{name}: {error}; {REMEDIES[name]}") from error
