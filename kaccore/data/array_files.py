"""Images as one array in a .npy or .npz file, with labels if there are any; pickled objects are
never loaded."""

from __future__ import annotations

import zipfile
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kaccore.data.class_names import number_labels
from kaccore.data.undecoded import UndecodedImages

ENDINGS = (".npy", ".npz")
IMAGES = ("images", "image", "imgs", "x", "data", "arr_0")
LABELS = ("labels", "label", "y", "targets", "target", "arr_1")
NAMES = ("class_names", "label_names", "classes", "names")
CHANNELS = (1, 2, 3, 4)  # gray, gray and alpha, RGB, RGBA
# the first bytes of .npy and .npz files, and of pickles
MAGIC = (b"\x93NUMPY", b"PK\3\4", b"PK\5\6")
PICKLED = b"\x80"
SHAPES = "expected (N, H, W) or (N, H, W, C) with C of 1 to 4"


def find(path: Path, split: str | None) -> UndecodedImages:
    """The images in an array file: (N, H, W), (N, H, W, C), or (N, C, H, W) if the shape fits only
    that; if it fits both, the layout with square images, with a warning.

    Raises ValueError for no images, for several arrays that may be images, and for labels that do
    not fit."""
    arrays = _read(path)
    images = _images(arrays, path, split)
    images, notes = _channels_last(images, path)
    labels, names = _pick(arrays, LABELS, split), _pick(arrays, NAMES, None)
    count = len(images)
    if not count:
        raise ValueError(f"{path} has no images: its shape is {images.shape}")
    numbers: NDArray[np.int64] | None = None
    class_names, label_notes = tuple[str, ...](), tuple[str, ...]()
    if labels is not None:
        known = None if names is None else [str(name) for name in np.asarray(names).tolist()]
        numbers, class_names, label_notes = number_labels(
            np.asarray(labels), known, count, str(path)
        )
    return UndecodedImages(
        count,
        lambda i: images[i],
        lambda i: f"image {i} of {path}",
        numbers,
        class_names,
        Counter({path.suffix.lower(): count}),
        Counter(),
        (*label_notes, *notes, *_unread(arrays, images, labels, names)),
        (0,),
    )


def _read(path: Path) -> Mapping[str, NDArray[Any]]:
    _check_magic(path)
    try:
        read = np.load(path, mmap_mode="r", allow_pickle=False)
        if isinstance(read, np.ndarray):
            return {"arr_0": read}
        with read:
            arrays = {key: read[key] for key in read.files}
        if strange := [key for key, array in arrays.items() if not isinstance(array, np.ndarray)]:
            raise ValueError(f"{strange[0]} in it is not an array")
        return arrays
    except (ValueError, EOFError, zipfile.BadZipFile, KeyError) as error:
        why = str(error)
        if "allow_pickle" in why or "Python objects" in why:
            why = "it contains Python objects, which could run code: save plain arrays"
        raise ValueError(f"{path} cannot be read ({why})") from error


def _check_magic(path: Path) -> None:
    """Raise ValueError for a file that is not numpy's: numpy itself would take it for a pickle."""
    with path.open("rb") as file:
        start = file.read(8)
    if not start:
        raise ValueError(f"{path} is an empty file")
    if not start.startswith((*MAGIC, PICKLED)):
        what = f"it begins with {start!r}, expected an array that numpy.save or numpy.savez wrote"
        raise ValueError(f"{path} is not a .npy or .npz file: {what}")


def _images(arrays: Mapping[str, NDArray[Any]], path: Path, split: str | None) -> NDArray[Any]:
    images = _pick(arrays, IMAGES, split)
    if images is not None:
        return images
    shaped = [key for key, array in arrays.items() if array.ndim in (3, 4)]
    if len(shaped) == 1 and split is None:
        return arrays[shaped[0]]
    has = ", ".join(f"{key} {array.shape}" for key, array in arrays.items()) or "nothing"
    wanted = "images, x or arr_0" if split is None else f"x_{split} or {split}_images"
    has_splits = any(word in key.lower() for key in shaped for word in ("train", "val", "test"))
    hint = ""
    if has_splits and split is None:
        hint = "; set `split` to the wanted part, such as train"
    raise ValueError(f"{path} has {has}, expected an array called {wanted}{hint}")


def _pick(
    arrays: Mapping[str, NDArray[Any]], names: tuple[str, ...], split: str | None
) -> NDArray[Any] | None:
    """The first of `arrays` with one of these names, joined with `split` if it is given."""
    lower = {key.lower(): array for key, array in arrays.items()}
    keys: list[str] = []
    for name in names:
        keys += [name] if split is None else [f"{name}_{split}", f"{split}_{name}"]
    return next((lower[key] for key in keys if key in lower), None)


def _channels_last(images: NDArray[Any], path: Path) -> tuple[NDArray[Any], tuple[str, ...]]:
    shape = images.shape
    if images.dtype.kind not in "ufb" and images.dtype.newbyteorder("=") not in (
        np.int16,
        np.int32,
    ):
        raise ValueError(
            f"{path} has images of {images.dtype}, expected uint8, or uint16, or floats in [0, 1]"
        )
    if images.ndim == 3 and shape[-1] in CHANNELS:
        raise ValueError(f"{path} has the shape {shape}, which is one image: {SHAPES}")
    if images.ndim == 4 and shape[1] in CHANNELS:
        if shape[-1] not in CHANNELS:
            return images.transpose(0, 2, 3, 1), (f"shape {shape} taken as (N, C, H, W)",)
        first = shape[2] == shape[3] and shape[1] != shape[2]
        layout = "(N, C, H, W)" if first else "(N, H, W, C)"
        note = (
            f"warning: shape {shape} taken as {layout}, though it is ambiguous: "
            "save image files if the other order is right"
        )
        return images.transpose(0, 2, 3, 1) if first else images, (note,)
    if (
        images.ndim not in (3, 4)
        or (images.ndim == 4 and shape[-1] not in CHANNELS)
        or 0 in shape[1:]
    ):
        raise ValueError(f"{path} has the shape {shape}, {SHAPES}")
    return images, ()


def _unread(arrays: Mapping[str, NDArray[Any]], images: Any, *used: Any) -> tuple[str, ...]:
    """A note about the arrays of a file that are neither images, labels nor names."""
    read = [array for array in (images, *used) if array is not None]
    left_out = []
    for key, array in arrays.items():
        if not any(array is other or np.shares_memory(array, other) for other in read):
            left_out.append(key)
    return (f"arrays left out: {', '.join(left_out)}",) if left_out else ()
