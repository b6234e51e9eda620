"""Facts about a data set without decoding it and without writing anything."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from kaccore.data import on_disk, user_images
from kaccore.data.cache import ImageCache
from kaccore.data.decoding import ordered_notes
from kaccore.data.images import ImageData
from kaccore.data.undecoded import UndecodedImages

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
    """The facts about a data set before it is decoded.

    count         number of images, including damaged ones, which are found only by decoding
    channels, size  of the images as a network sees them
    class_names   one text for each class; empty if there are none
    class_counts  number of images of each class; empty if unknown
    formats       ending -> number of images with it
    sizes         (width, height) in the files -> number of images, among the `measured` ones
    left_out      ending -> number of files that are not read
    notes         the notes of `ImageData` that are known before decoding
    fingerprint   that of the images; None before they are decoded
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
        with on_disk.remedies_added(name):
            return _published(name, on_disk.checked_root(root), cache, settings.get("limit"))
    return of_decoded(load(**settings))


def of_decoded(data: ImageData, count: int | None = None) -> Look:
    """What is known of decoded `data`; `count`: of how many images, if not of all."""
    counts: list[int] = []
    if data.labels is not None:
        counts = np.bincount(data.labels.numpy(), minlength=data.classes).tolist()
    return Look(
        data.name, len(data) if count is None else count, data.channels, data.size, data.class_names, tuple(counts),
        notes=data.notes, fingerprint=data.fingerprint,
    )  # fmt: skip


def _published(name: str, root: Path, cache: Path | None, limit: int | None) -> Look:
    if name == "lsun_bedroom256":
        decoded = on_disk.bedroom_cache(root, cache, limit).read()
        if decoded is not None:
            return of_decoded(decoded)
        _check_exists(root / "bedroom_train_lmdb" / "data.mdb")
        return Look(name, _bedrooms(root / "bedroom_train_lmdb", limit), 3, 256)
    decoded = ImageCache(name, root, cache, {}).read()
    if decoded is not None:
        return of_decoded(decoded)
    if name == "cifar10":
        for file in [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch", "batches.meta"]:
            _check_exists(root / "cifar-10-batches-py" / file)
        return Look(name, CIFAR10_COUNT, 3, 32, CIFAR10_CLASSES)
    partition = root / "celeba" / "list_eval_partition.txt"
    _check_exists(root / "celeba" / "img_align_celeba")
    _check_exists(partition)
    lines = partition.read_text(encoding="utf-8").splitlines()
    training = sum(line.split()[1:2] == ["0"] for line in lines)
    return Look(name, training, 3, 64)


def _bedrooms(folder: Path, limit: int | None) -> int:
    import lmdb

    try:
        with lmdb.open(str(folder), readonly=True, lock=False) as env:
            count = int(env.stat()["entries"])
    except lmdb.Error as error:
        raise ValueError(f"cannot read the LMDB {folder} ({error})") from error
    return count if limit is None else min(count, limit)


def _check_exists(file: Path) -> None:
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
        raise ValueError(on_disk.size_message(size))
    colour = on_disk.background_colour(background)
    with on_disk.remedies_added("folder"):
        images = user_images.find_images(on_disk.checked_root(root, file=True), split, cache)
        decoded = images.image_cache(size, colour, skip_damaged).read()
        undecoded = images.find(None)
        try:
            sizes = _sizes(undecoded)
        finally:
            undecoded.close()
        counts: list[int] = []
        if undecoded.labels is not None:
            classes = len(undecoded.class_names)
            counts = np.bincount(undecoded.labels, minlength=classes).tolist()
        notes = ordered_notes([*images.notes, *undecoded.notes, *_size_notes(sizes, size)])
        listed = Look(
            "folder", undecoded.count, 3, size, undecoded.class_names, tuple(counts), dict(undecoded.formats or {}),
            dict(sizes), sum(sizes.values()), dict(undecoded.left_out or {}), notes,
        )  # fmt: skip
        return listed if decoded is None else _merged(listed, images.with_notes(decoded))


def _merged(listed: Look, data: ImageData) -> Look:
    """The facts from listing the files, updated with those from the decoded images."""
    decoded = of_decoded(data)
    return replace(
        decoded,
        formats=listed.formats,
        sizes=listed.sizes,
        measured=listed.measured,
        left_out=listed.left_out,
    )


def _sizes(undecoded: UndecodedImages) -> Counter[tuple[int, int]]:
    """Width and height of the images whose sizes can be read quickly; damaged ones are left out."""
    from kaccore.data.pixels import image_size

    sizes: Counter[tuple[int, int]] = Counter()
    for index in undecoded.cheap:
        try:
            item = undecoded.item(index)
            if isinstance(item, np.ndarray):
                sizes[image_size(item)] += undecoded.count  # the images of an array are alike
            else:
                with item:
                    sizes[image_size(item)] += 1
        except MemoryError:
            raise
        except Exception:  # decoding reports it, with all other damaged images
            continue
    return sizes


def _size_notes(sizes: Counter[tuple[int, int]], size: int) -> list[str]:
    count = sum(n for shape, n in sizes.items() if min(shape) < size)
    total = sum(sizes.values())
    if not count:
        return []
    return [f"warning: {count:,} of {total:,} measured images are smaller than {size}x{size}"]
