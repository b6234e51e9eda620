"""Labels as numbers from 0, and a printable name for each class."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kaccore.data.endings import list_text

MOST = 100_000  # classes at most; with more, the labels are not classes


def printable_names(names: Sequence[str]) -> tuple[str, ...]:
    """The names as unique printable Unicode."""
    clean: list[str] = []
    taken: set[str] = set()
    for name in names:
        raw = name.encode("utf-8", "surrogateescape")  # a file's name may be any bytes
        text = unicodedata.normalize("NFC", raw.decode("utf-8", "replace"))
        text = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)
        text = text or "(no name)"
        unique, number = text, 1
        while unique in taken:
            number += 1
            unique = f"{text} ({number})"
        taken.add(unique)
        clean.append(unique)
    return tuple(clean)


def number_labels(
    values: NDArray[Any], names: Sequence[str] | None, count: int, where: str
) -> tuple[NDArray[np.int64], tuple[str, ...], tuple[str, ...]]:
    """Labels of `count` images as (N,) int64, the class names, and notes.

    Whole numbers that start at 0, or have `names`, stay as they are; other numbers, and texts, are
    numbered in sorted order. Raises ValueError unless there is one label for each image and one
    name for each class."""
    if values.ndim == 2 and values.shape[1] == 1:
        values = values[:, 0]
    if values.shape != (count,):
        raise ValueError(
            f"{where} has labels of shape {values.shape}, expected ({count:,},), one for each image"
        )
    if values.dtype.kind in "USO":
        texts, inverse = np.unique([_text(value, where) for value in values], return_inverse=True)
        return inverse.astype(np.int64), printable_names([str(text) for text in texts]), ()
    if values.dtype.kind not in "iub":
        raise ValueError(f"{where} has labels of {values.dtype}, expected whole numbers or texts")
    least, most = int(values.min()), int(values.max())
    if names is not None:
        if not 0 <= least <= most < len(names):
            raise ValueError(
                f"{where} has labels from {least} to {most} and {len(names)} names of classes"
            )
        return values.astype(np.int64), printable_names(names), _unused(values, names)
    kinds, inverse = np.unique(values, return_inverse=True)
    if len(kinds) > MOST:
        raise ValueError(f"{where} has {len(kinds):,} different labels, expected those of classes")
    plain = [str(kind) for kind in kinds.tolist()]
    if least == 0 and most < len(kinds) + MOST and most < 2 * len(kinds):
        every = [str(number) for number in range(most + 1)]
        return values.astype(np.int64), tuple(every), _unused(values, every)
    note = f"labels {list_text(plain)} are numbered from 0 in this order"
    return inverse.astype(np.int64), tuple(plain), (note,)


def _unused(values: NDArray[Any], names: Sequence[str]) -> tuple[str, ...]:
    empty = [names[i] for i in sorted(set(range(len(names))) - set(np.unique(values).tolist()))]
    return (f"warning: no images in the classes {list_text(empty)}",) if empty else ()


def _text(value: Any, where: str) -> str:
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if not isinstance(value, str):
        raise ValueError(f"{where} has the label {value!r}, expected whole numbers or texts")
    return value
