"""What a data set holds, found out without decoding it and without writing anything."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from kaccore.data import on_disk, own
from kaccore.data.cache import Cached, in_order
from kaccore.data.found import Found
from kaccore.data.images import ImageData

CIFAR10_COUNT = 50_000
CIFAR10_CLASSES = (
    "airplane",
    "automobile",
    "bird",
    "cat",
    "deer",
    "dog",
    "frog",
    "horse",
    "ship",
    "truck",
)


@dataclass(frozen=True)
class Look:
    """What is known of a data set before it is decoded.

    count         how many images; of a damaged one that is among them nothing is known yet
    channels, size  of the images as a network sees them
    class_names   one text a class; empty where there are none
    class_counts  how many images each class has; empty where that is not known
    formats       ending -> how many images are of it
    sizes         (width, height) in the files -> how many images have it, of the `measured` ones that were looked at
    left_out      ending -> how many files are not read
    notes         as those of `ImageData`, as far as they are known yet
    fingerprint   that of the images; None where they have not been decoded yet
    """

    name: str
    count: int
    channels: int
    size: int
    class_names: tuple[str, ...] = ()
    class_counts: tuple[int, ...] = ()
    formats: Mapping[str, int] = field(default_factory=dict)
    sizes: Mapping[tuple[int, int], int] = field(default_factory=dict)
    measured: int = 0
    left_out: Mapping[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    fingerprint: str | None = None


def look(
    name: str,
    load: Callable[..., ImageData],
    root: Path | None,
    cache: Path | None,
    **settings: Any,
) -> Look:
    """See `kaccore.data.look`, which has checked the settings."""
    if name == "folder":
        return _folder(root, cache, **settings)
    if name in on_disk.REMEDIES:
        with on_disk.explained(name):
            return _published(name, on_disk.existing(root), cache, settings.get("limit"))
    return _of(load())


def _of(data: ImageData, count: int | None = None) -> Look:
    counts = (
        ()
        if data.labels is None
        else np.bincount(data.labels.numpy(), minlength=data.classes).tolist()
    )
    return Look(
        data.name, len(data) if count is None else count, data.channels, data.size, data.class_names, tuple(counts),
        notes=data.notes, fingerprint=data.fingerprint,
    )  # fmt: skip


def _published(name: str, root: Path, cache: Path | None, limit: int | None) -> Look:
    if name == "lsun_bedroom256":
        kept = on_disk.bedrooms(root, cache, limit).found()
        if kept is not None:
            return _of(kept)
        _check_there(root / "bedroom_train_lmdb" / "data.mdb")
        return Look(name, _bedrooms(root / "bedroom_train_lmdb", limit), 3, 256)
    kept = Cached(name, root, cache, {}).found()
    if kept is not None:
        return _of(kept)
    if name == "cifar10":
        for file in [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch", "batches.meta"]:
            _check_there(root / "cifar-10-batches-py" / file)
        return Look(name, CIFAR10_COUNT, 3, 32, CIFAR10_CLASSES)
    lists = root / "celeba" / "list_eval_partition.txt"
    _check_there(root / "celeba" / "img_align_celeba")
    _check_there(lists)
    training = sum(
        line.split()[1:2] == ["0"] for line in lists.read_text(encoding="utf-8").splitlines()
    )
    return Look(name, training, 3, 64)


def _bedrooms(folder: Path, limit: int | None) -> int:
    import lmdb

    try:
        with lmdb.open(str(folder), readonly=True, lock=False) as env:
            count = int(env.stat()["entries"])
    except lmdb.Error as error:
        raise ValueError(f"cannot read the LMDB {folder} ({error})") from error
    return count if limit is None else min(count, limit)


def _check_there(file: Path) -> None:
    if not file.exists():
        raise FileNotFoundError(f"there is no {file}")


def _folder(
    root: Path | None,
    cache: Path | None,
    size: int | None,
    background: str,
    split: str | None,
    skip_damaged: bool,
) -> Look:
    if size is None or size < 1:
        raise ValueError(
            f"folder: size is {size}, expected the pixels a side that its images are to have"
        )
    colour = on_disk.background_colour(background)
    with on_disk.explained("folder"):
        images = own.look_up(on_disk.existing(root, file=True), split, cache)
        kept = images.cached(size, colour, skip_damaged).found()
        found = images.find(None)
        try:
            sizes = _sizes(found)
        finally:
            found.close()
        counts = (
            ()
            if found.labels is None
            else np.bincount(found.labels, minlength=len(found.class_names)).tolist()
        )
        notes = in_order([*images.notes, *found.notes, *_small(sizes, size)])
        whole = Look(
            "folder", found.count, 3, size, found.class_names, tuple(counts), dict(found.formats or {}), dict(sizes),
            sum(sizes.values()), dict(found.left_out or {}), notes,
        )  # fmt: skip
        return whole if kept is None else _with(whole, images.told(kept))


def _with(whole: Look, kept: ImageData) -> Look:
    """What was found with what is known since all of it was decoded."""
    known = _of(kept)
    return Look(
        whole.name, known.count, known.channels, known.size, known.class_names, known.class_counts, whole.formats,
        whole.sizes, whole.measured, whole.left_out, known.notes, known.fingerprint,
    )  # fmt: skip


def _sizes(found: Found) -> Counter[tuple[int, int]]:
    """Width and height of those images whose files' heads are quickly read; of a damaged one
    nothing."""
    from kaccore.data.pixels import measured

    sizes: Counter[tuple[int, int]] = Counter()
    for index in found.cheap:
        try:
            item = found.item(index)
            if isinstance(item, np.ndarray):
                sizes[measured(item)] += found.count  # all of an array are alike
            else:
                with item:
                    sizes[measured(item)] += 1
        except MemoryError:
            raise
        except Exception:  # decoding it will tell, with all others
            continue
    return sizes


def _small(sizes: Counter[tuple[int, int]], size: int) -> list[str]:
    count = sum(n for shape, n in sizes.items() if min(shape) < size)
    of = sum(sizes.values())
    return (
        [f"warning: {count:,} of {of:,} images that were measured are smaller than {size}x{size}"]
        if count
        else []
    )
