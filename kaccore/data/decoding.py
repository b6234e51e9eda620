"""Decodes all images of a source, whichever of them are damaged, and orders the notes about them."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from kaccore import progress
from kaccore.arrays import rows_at_once
from kaccore.data.undecoded import WrongRangeError

REPORT_SECONDS = 30.0
NAMED = 20  # damaged images in a message; the others are counted
WARNING = "warning: "  # the beginning of a note that is a warning
NOTES_ROOM, LONGEST_NOTE = (
    2**16,
    2000,
)  # bytes of all notes, as a cache file has them; characters of one


@dataclass(frozen=True, eq=False)
class ImageSource:
    """Images that are decoded one at a time.

    shape   (N, C, H, W)
    pixels  index -> (C, H, W) uint8; for a damaged image it may raise any error of its decoder
    place   index -> the file or array that has this image, for messages
    notes   returns lines about what was done to the images; called when all are read
    close   called when all images are read
    skip_damaged  leave out images that cannot be decoded, instead of raising
    """

    shape: tuple[int, int, int, int]
    pixels: Callable[[int], np.ndarray]
    place: Callable[[int], str]
    labels: Tensor | None = None
    class_names: tuple[str, ...] = ()
    notes: Callable[[], Iterable[str]] = tuple
    close: Callable[[], None] = lambda: None
    skip_damaged: bool = False


class Decoding:
    """Decodes all images of a source, continuing after damaged ones, so that one message names them
    all."""

    def __init__(self, name: str, folder: Path, source: ImageSource) -> None:
        self.name = name
        self.folder = folder
        self.source = source
        self.damaged: dict[int, str] = {}  # index -> what is wrong
        self.refused = False  # whether an image failed that must not be skipped

    def parts(self) -> Iterator[np.ndarray]:
        """The sound images in parts of PART_BYTES; reports progress every half a minute. Raises
        ValueError at the end if images are damaged."""
        count, reported = self.source.shape[0], time.monotonic()
        rows = rows_at_once(math.prod(self.source.shape[1:]))
        for first in range(0, count, rows):
            part = np.empty((min(rows, count - first), *self.source.shape[1:]), np.uint8)
            sound = 0
            for index in range(first, first + len(part)):
                sound += self._decode(index, part[sound])
            if not self.damaged or self.source.skip_damaged:
                yield part[:sound]
            if time.monotonic() > reported + REPORT_SECONDS:
                reported, done = time.monotonic(), first + len(part)
                progress.say(
                    f"{self.name}: {done:,} of {count:,} images decoded into {self.folder}"
                )
        self._check()

    def _decode(self, index: int, into: np.ndarray) -> bool:
        try:
            pixels = self.source.pixels(index)
        except MemoryError:
            raise
        except Exception as error:  # for a damaged image a decoder may raise anything
            kind = "ValueError" if isinstance(error, WrongRangeError) else type(error).__name__
            self.damaged[index] = f"{kind}: {error}"
            # a file that cannot be read is not damaged and may be readable the next time; in a set
            # with another range of numbers also the images inside the allowed range are wrong
            fault = getattr(error, "errno", None) is not None or isinstance(error, WrongRangeError)
            self.refused |= not self.source.skip_damaged or fault
            return False
        assert pixels.shape == into.shape and pixels.dtype == np.uint8
        into[:] = pixels
        return True

    def _check(self) -> None:
        if self.refused:
            raise ValueError(f"cannot read {self._named()}")
        if len(self.damaged) == self.source.shape[0]:
            raise ValueError(f"all images are damaged: {self._named()}")
        labels = self.source.labels
        if self.damaged and labels is not None:
            lost = set(labels.tolist()) - set(labels[self.sound_indices()].tolist())
            empty = [self.source.class_names[label] for label in sorted(lost)]
            if empty:
                names = ", ".join(empty[:NAMED])
                raise ValueError(f"all images of the classes {names} are damaged: {self._named()}")

    def _named(self) -> str:
        named = [
            f"{self.source.place(k)} ({what})" for k, what in list(self.damaged.items())[:NAMED]
        ]
        more = f", and {len(self.damaged) - NAMED:,} more" if len(self.damaged) > NAMED else ""
        several = f"{len(self.damaged):,} images: " if len(self.damaged) > 1 else ""
        return several + ", ".join(named) + more

    def sound_indices(self) -> Tensor:
        """The indices of the sound images."""
        return torch.tensor([k for k in range(self.source.shape[0]) if k not in self.damaged])

    def notes(self) -> tuple[str, ...]:
        """A warning about the images that were skipped."""
        count = len(self.damaged)
        if not count:
            return ()
        names = ", ".join(self.source.place(k) for k in list(self.damaged)[:NAMED])
        if count > NAMED:
            names += f" and {count - NAMED:,} more"
        images = "image" if count == 1 else "images"
        return (f"{WARNING}{count:,} damaged {images} skipped: {names}",)


def ordered_notes(notes: Iterable[str]) -> tuple[str, ...]:
    """The notes, warnings first, without duplicates, each cut to LONGEST_NOTE characters, as many
    as fit into NOTES_ROOM."""
    short = []
    for note in dict.fromkeys(notes):
        text = note.encode("utf-8", "replace").decode()  # a file's name in it may be any bytes
        short.append(text if len(text) <= LONGEST_NOTE else text[: LONGEST_NOTE - 3] + "...")
    ordered = sorted(short, key=lambda note: not note.startswith(WARNING))
    lengths = accumulate(len(json.dumps(json.dumps(note))) for note in ordered)
    return tuple(note for note, length in zip(ordered, lengths, strict=True) if length < NOTES_ROOM)
