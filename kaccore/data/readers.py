"""torchvision's readers of published data sets, with messages that name the faulty file.

Importing this imports torchvision, which takes seconds: it is needed only without a cache.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import lmdb
import numpy as np
import torch
from PIL import Image
from torchvision import datasets
from torchvision.datasets.utils import check_integrity

from kaccore.data.cache import FOLDER, locked
from kaccore.data.decoding import ImageSource

# pages at the end of an LMDB that may be numbered and never written, as its own copying allows
LMDB_SLACK = 16


def cifar10(root: Path, download: bool) -> ImageSource:
    """The training images of CIFAR-10."""
    kind = datasets.CIFAR10
    files = {
        **dict(kind.train_list),
        **dict(kind.test_list),
        kind.meta["filename"]: kind.meta["md5"],
    }
    reader = _opened(kind, root, files, download)
    return ImageSource(
        (len(reader.data), 3, 32, 32),
        lambda i: reader.data[i].transpose(2, 0, 1),
        lambda i: f"image {i} of {root / kind.base_folder}",
        torch.tensor(reader.targets),
        tuple(reader.classes),
    )


def celeba64(root: Path, download: bool) -> ImageSource:
    """The training images of CelebA, aligned and cropped: the centre of 140x140 at 64x64."""
    kind, folder = datasets.CelebA, "img_align_celeba"
    lists = {name: md5 for _, md5, name in kind.file_list if name.endswith(".txt")}
    reader = _opened(kind, root, {folder: None, **lists}, download, split="train")
    return ImageSource(
        (len(reader.filename), 3, 64, 64),
        lambda i: square(reader[i][0], 64, 140, Image.Resampling.BILINEAR),
        lambda i: str(root / kind.base_folder / folder / reader.filename[i]),
    )


class Bedrooms(datasets.LSUNClass):
    """torchvision's reader of one LSUN database, without its constructor. That would write a pickle
    of all keys into the working folder, and would read the pickle of any other database whose path
    has the same letters."""

    def __init__(self, folder: Path, limit: int | None) -> None:
        super(datasets.LSUNClass, self).__init__(str(folder))
        self.env = lmdb.open(
            str(folder), max_readers=1, readonly=True, lock=False, readahead=False, meminit=False
        )
        with self.env.begin() as transaction:
            self.keys = list(islice(transaction.cursor().iternext(keys=True, values=False), limit))
        self.length = len(self.keys)


def lsun_bedroom256(root: Path, limit: int | None) -> ImageSource:
    """The first `limit` training images of LSUN's bedrooms in the order of their keys: the centre
    square at 256x256."""
    folder = root / "bedroom_train_lmdb"
    try:
        _check_whole(folder)
        reader = Bedrooms(folder, limit)
    except lmdb.Error as error:
        raise ValueError(f"cannot read the LMDB {folder} ({error})") from error
    if not len(reader):
        raise ValueError(f"the LMDB {folder} is empty")
    return ImageSource(
        (len(reader), 3, 256, 256),
        lambda i: square(reader[i][0], 256),
        lambda i: f"image {reader.keys[i].decode(errors='replace')} of {folder}",
        close=reader.env.close,
    )


def square(
    image: Image.Image,
    size: int,
    crop: int | None = None,
    resample: Image.Resampling = Image.Resampling.BICUBIC,
) -> np.ndarray:
    """The centre of `crop` x `crop` pixels, by default the largest, at `size` x `size`: uint8 (3,
    size, size).

    Pillow's filters widen when they shrink an image, so nothing aliases. Raises ValueError if `crop`
    does not fit."""
    side = min(image.size) if crop is None else crop
    if side > min(image.size):
        raise ValueError(f"{image.width}x{image.height} pixels, expected at least {side}x{side}")
    left, top = (image.width - side) // 2, (image.height - side) // 2
    centre = image.convert("RGB").crop((left, top, left + side, top + side))
    return np.asarray(centre.resize((size, size), resample)).transpose(2, 0, 1)


def _opened(
    kind: Any, root: Path, files: Mapping[str, str | None], download: bool, **options: Any
) -> Any:
    """A torchvision data set, downloaded if `download`, after checking that its `files` exist and
    have these md5 sums."""
    if download:
        with locked(root / FOLDER / f"{kind.base_folder}-download"):
            try:
                kind(root, download=True, **options)
            except (OSError, RuntimeError) as error:
                raise ConnectionError(f"the download into {root} failed ({error})") from error
    folder = root / kind.base_folder
    for file, md5 in files.items():
        if not (folder / file).exists():
            raise FileNotFoundError(f"there is no {folder / file}")
        if md5 is not None and not check_integrity(folder / file, md5):
            raise ValueError(f"{folder / file} is damaged: its md5 is not {md5}")
    try:
        return kind(root, **options)
    except (RuntimeError, ValueError, IndexError, EOFError) as error:
        raise ValueError(f"the files in {folder} do not fit together ({error})") from error


def _check_whole(folder: Path) -> None:
    """Raise if a database is missing or cut off: reading beyond the end of a mapped file would kill
    the process."""
    file = folder / "data.mdb"
    if not file.exists():
        raise FileNotFoundError(f"there is no {file}")
    with lmdb.open(str(folder), readonly=True, lock=False) as env:
        needed = (env.info()["last_pgno"] + 1 - LMDB_SLACK) * env.stat()["psize"]
    if file.stat().st_size < needed:
        raise ValueError(
            f"{file} is cut off: it has {file.stat().st_size:,} bytes, expected at least {needed:,}"
        )
