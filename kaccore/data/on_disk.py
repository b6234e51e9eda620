"""Data sets that lie in a folder, `root`: read by torchvision's readers once, and from a cache file from then on.

| name            | images                                              | expected in `root`                           |
|-----------------|-----------------------------------------------------|----------------------------------------------|
| cifar10         | 50,000 (training) of 32x32, 10 classes, 0.15 GB     | cifar-10-batches-py/                         |
| celeba64        | 162,770 (training) of 64x64, unlabelled, 2.0 GB     | celeba/ with its lists and img_align_celeba/ |
| lsun_bedroom256 | 3,033,042 (training) of 256x256, unlabelled, 596 GB | bedroom_train_lmdb/                          |
| folder          | yours, of any size                                  | images, or a folder of images for each class |

The gigabytes are the cache's. It is a file in `cache`, by default `.kaccore` in `root`; the first two need nothing else
once it is there. Each function raises FileNotFoundError for what is missing, ValueError for what is damaged, both with
the way to get it, ConnectionError for a failed download, PermissionError for a cache that cannot be written.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

from kaccore.data.cache import cached
from kaccore.data.images import ImageData

REMEDIES = {
    "cifar10": "get cifar-10-python.tar.gz from https://www.cs.toronto.edu/~kriz/cifar.html and unpack it in root, or "
    "set download",
    "celeba64": "get img_align_celeba.zip and the lists of annotations and partitions from "
    "https://mmlab.ie.cuhk.edu.hk/projects/CelebA.html and unpack them in celeba in root, or set download",
    "lsun_bedroom256": "get bedroom_train_lmdb.zip as https://github.com/fyu/lsun says and unpack it in root",
    "folder": "root has to hold images, or a folder of images for each class",
}


def cifar10(root: Path | None, cache: Path | None = None, download: bool = False) -> ImageData:
    """CIFAR-10's training images as they are. Source: Krizhevsky, "Learning Multiple Layers of Features", 2009."""
    with _explained("cifar10"):
        here = _existing(root, download)
        return cached("cifar10", here, cache, {}, "", lambda: _readers().cifar10(here, download))


def celeba64(root: Path | None, cache: Path | None = None, download: bool = False) -> ImageData:
    """CelebA's aligned training images: of 178x218 the centre of 140x140, bilinear to 64x64.

    So does Score-SDE (arXiv 2011.13456, its `datasets.py`). Others crop 148 or, as DDIM, 128 around (89, 121): numbers
    compare at equal crops only. Source: Liu et al., arXiv 1411.7766. The download needs the package gdown.
    """
    with _explained("celeba64"):
        here = _existing(root, download)
        return cached("celeba64", here, cache, {}, "", lambda: _readers().celeba64(here, download))


def lsun_bedroom256(root: Path | None, cache: Path | None = None, limit: int | None = None) -> ImageData:
    """LSUN's bedrooms for training: the centre square at 256x256, bicubic. Source: Yu et al., arXiv 1506.03365.

    The cache of all of them takes 596 GB and an hour or two to write. `limit` takes the first so many in the order of
    their keys, which are hashes: as good as drawn at random. Raises ValueError for a limit below 1.
    """
    if limit is not None and limit < 1:
        raise ValueError(f"lsun_bedroom256: limit is {limit}, expected 1 or more")
    with _explained("lsun_bedroom256"):
        here = _existing(root)
        stamp = _stamp(here, map(str, (here / "bedroom_train_lmdb").glob("data.mdb")))
        source = lambda: _readers().lsun_bedroom256(here, limit)  # noqa: E731
        return cached("lsun_bedroom256", here, cache, {"limit": limit}, stamp, source)


def folder(root: Path | None, cache: Path | None = None, size: int | None = None) -> ImageData:
    """Any images: the centre square at `size` x `size`, bicubic, in three channels, in the order of their paths.

    Folders in `root` are classes, in the order of their names; images right in `root` are unlabelled. Where files are
    added, removed or changed, all are read again. Raises ValueError for no size, or one below 1.
    """
    if size is None or size < 1:
        raise ValueError(f"folder: size is {size}, expected the pixels a side that its images are to have")
    with _explained("folder"):
        here = _existing(root)
        tree = _readers().image_tree(here)
        stamp = _stamp(here, (path for path, _ in tree.samples))
        return cached("folder", here, cache, {"size": size}, stamp, lambda: _readers().folder(tree, size))


def _readers() -> Any:
    return import_module("kaccore.data.readers")  # with torchvision, seconds that a cache spares


def _existing(root: Path | None, download: bool = False) -> Path:
    if root is None:
        raise ValueError("root is missing, the folder with the data")
    if not root.is_dir() and not download:
        raise FileNotFoundError(f"there is no folder {root}")
    return root


def _stamp(root: Path, files: Iterable[str]) -> str:
    """A hash that changes when a file under `root` is added, removed or written."""
    digest = hashlib.sha256()
    for file in files:
        status = os.stat(file)
        within = file.removeprefix(str(root))
        digest.update(f"{within}\0{status.st_size}\0{status.st_mtime_ns}\n".encode(errors="surrogateescape"))
    return digest.hexdigest()


@contextmanager
def _explained(name: str) -> Iterator[None]:
    """What is missing or damaged, with the data set's name and the way to get it."""
    try:
        yield
    except (FileNotFoundError, ConnectionError, ValueError) as error:
        kind = next(k for k in (FileNotFoundError, ConnectionError, ValueError) if isinstance(error, k))
        raise kind(f"{name}: {error}; {REMEDIES[name]}") from error
