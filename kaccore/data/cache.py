"""Images decoded once into a file that is mapped into memory from then on: no epoch decodes a JPEG
again.

The file is a safetensors file of `images` (N, C, H, W) uint8 and, where there are any, `labels`
(N,) int64. It is written aside in parts and renamed, under a lock, so that one process writes and
nobody takes half a file for a whole one. The fingerprint is kept in its header, which has a
checksum of its own, and so are notes on what was done."""

from __future__ import annotations

import errno
import hashlib
import json
import math
import os
import shutil
import tempfile
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import accumulate
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from torch import Tensor

from kaccore import progress
from kaccore.arrays import rows_at_once
from kaccore.data.found import WrongRangeError
from kaccore.data.images import ImageData

FORMAT = 3  # raised when other pixels come of the same files and settings
FOLDER = ".kaccore"  # in the data's root
LONGEST_HEADER = 100_000_000  # bytes, as safetensors has it
REPORT_SECONDS = 30.0
UNKNOWN = "0" * 64  # the fingerprint of a file that is being written
NAMED = 20  # damaged images; the rest is counted
NOTES_ROOM, LONGEST_NOTE = 2**16, 2000  # bytes of the header for notes; characters of one
WARNING = "warning: "  # how a note begins that people had better read


@dataclass(frozen=True, eq=False)
class Source:
    """Images that are read one at a time.

    shape   (N, C, H, W)
    pixels  index -> (C, H, W) uint8; may raise whatever a damaged image makes its decoder raise
    place   index -> the file, or the like, that holds this image, for messages
    notes   lines for people on what was done to the images, asked for when all is read
    close   called when all is read
    skip_damaged  whether images that cannot be decoded are left out, and not the reason to stop
    """

    shape: tuple[int, int, int, int]
    pixels: Callable[[int], np.ndarray]
    place: Callable[[int], str]
    labels: Tensor | None = None
    class_names: tuple[str, ...] = ()
    notes: Callable[[], Iterable[str]] = tuple
    close: Callable[[], None] = lambda: None
    skip_damaged: bool = False


@dataclass(frozen=True)
class Cached:
    """Where the decoded images of a data set are kept.

    `cache` is the file's folder, by default `.kaccore` in `root`; `settings` are what its content
    depends on; with another `stamp` the original files have changed."""

    name: str
    root: Path
    cache: Path | None
    settings: dict[str, Any]
    stamp: str = ""

    @property
    def folder(self) -> Path:
        """Where the file is."""
        return self.cache or self.root / FOLDER

    @property
    def path(self) -> Path:
        """The file."""
        content = {"format": FORMAT, **self.settings}
        content |= {} if self.cache is None else {"root": str(self.root.resolve())}
        key = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:8]
        return self.folder / f"{self.name}-{key}.safetensors"

    def found(self) -> ImageData | None:
        """The images, where their file is there and whole and fits the original ones."""
        return _read(self.path, self.name, self.stamp)

    def images(self, source: Callable[[], Source], write: bool = True) -> ImageData:
        """The images of `source`, from their file; where that is missing, damaged or stale it is
        written first, or without `write` a temporary one that is gone with the images.

        Raises PermissionError where the folder cannot be written, OSError where the disk has too
        little room, ValueError for damaged images."""
        found = (
            self.found()
        )  # without the lock first: what is whole may lie where nothing can be written
        if found is not None:
            return found
        if not write:
            with tempfile.TemporaryDirectory(prefix="kaccore-") as folder:
                return self._written(Path(folder) / self.path.name, source)
        with locked(self.path):
            found = self.found()  # whoever held the lock has written it
            return self._written(self.path, source) if found is None else found

    def _written(self, path: Path, source: Callable[[], Source]) -> ImageData:
        opened = source()
        try:
            _write(path, self.name, self.stamp, opened)
        finally:
            opened.close()
        found = _read(path, self.name, self.stamp)
        assert found is not None, "just written"
        return found


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock of `path`, a file beside it. Raises PermissionError where its folder cannot be
    written."""
    from filelock import FileLock

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(f"{path}.lock").acquire()
    except OSError as error:
        if error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise
        what = f"cannot write in {path.parent} ({error.strerror}): make it writable or give another folder as `cache`"
        raise PermissionError(error.errno, what) from error
    with lock:
        yield


def _write(path: Path, name: str, stamp: str, source: Source) -> None:
    """The images begin where the longest header and all labels end; what these then leave the
    header fills up."""
    aside = path.with_name(
        f"{path.name}.part"
    )  # one name: what a killed writer left is written over
    nbytes = math.prod(source.shape)
    aside.unlink(missing_ok=True)
    free = shutil.disk_usage(path.parent).free
    if nbytes > free:
        need = f"{name}: its {source.shape[0]:,} decoded images take {nbytes / 1e9:,.1f} GB"
        what = (
            f"{need}, {path.parent} has {free / 1e9:,.1f} GB free: give another folder as `cache`"
        )
        raise OSError(errno.ENOSPC, what)
    whole = _Head(source.shape, source.labels, source.class_names, stamp)
    first = (
        len(whole.bytes(UNKNOWN))
        + NOTES_ROOM
        + (0 if source.labels is None else source.labels.nbytes)
    )
    decoding = _Decoding(name, path.parent, source)
    try:
        with aside.open("wb") as file:
            file.seek(first)
            for part in decoding.parts():
                file.write(part.data)
        kept = decoding.kept()
        labels = source.labels if source.labels is None else source.labels[decoding.kept()]
        notes = in_order([*decoding.notes(), *source.notes()])
        head = replace(whole, shape=(len(kept), *source.shape[1:]), labels=labels, notes=notes)
        with aside.open("r+b") as file:
            file.write(head.bytes(UNKNOWN, first))
            file.seek(0)
            data = _mapped(file, name)
            assert data is not None
            file.seek(0)
            file.write(head.bytes(data.fingerprint, first))
            file.flush()
            os.fsync(file.fileno())
        aside.replace(path)
    except BaseException:
        aside.unlink(
            missing_ok=True
        )  # a full disk is not filled further by what could not be written
        raise


def in_order(notes: Iterable[str]) -> tuple[str, ...]:
    """Warnings first, each line once and none without end; a file's name in it may be any bytes."""
    plain = (note.encode("utf-8", "replace").decode() for note in dict.fromkeys(notes))
    short = [
        note if len(note) <= LONGEST_NOTE else note[: LONGEST_NOTE - 3] + "..." for note in plain
    ]
    ordered = sorted(short, key=lambda note: not note.startswith(WARNING))
    lengths = accumulate(len(json.dumps(json.dumps(note))) for note in ordered)
    return tuple(note for note, length in zip(ordered, lengths, strict=True) if length < NOTES_ROOM)


class _Decoding:
    """Reads all images of a source, past those that are damaged, so that all of these are known at
    once."""

    def __init__(self, name: str, folder: Path, source: Source) -> None:
        self.name = name
        self.folder = folder
        self.source = source
        self.damaged: dict[int, str] = {}  # index -> what is wrong
        self.refused = False  # whether one cannot be skipped

    def parts(self) -> Iterator[np.ndarray]:
        """The sound images in parts of PART_BYTES; says every half a minute how far it is. Raises
        ValueError at the end where there are damaged ones, all of them named."""
        count, said = self.source.shape[0], time.monotonic()
        rows = rows_at_once(math.prod(self.source.shape[1:]))
        for first in range(0, count, rows):
            part = np.empty((min(rows, count - first), *self.source.shape[1:]), np.uint8)
            sound = 0
            for index in range(first, first + len(part)):
                sound += self._decode(index, part[sound])
            if not self.damaged or self.source.skip_damaged:
                yield part[:sound]
            if time.monotonic() > said + REPORT_SECONDS:
                said, done = time.monotonic(), first + len(part)
                progress.say(
                    f"{self.name}: {done:,} of {count:,} images decoded into {self.folder}"
                )
        self._check()

    def _decode(self, index: int, into: np.ndarray) -> bool:
        try:
            pixels = self.source.pixels(index)
        except MemoryError:
            raise
        except Exception as error:  # a damaged image raises whatever its decoder comes upon
            kind = "ValueError" if isinstance(error, WrongRangeError) else type(error).__name__
            self.damaged[index] = f"{kind}: {error}"
            # what the system cannot read, or may not, is no damage, and may be there the next time;
            # of a set of another range the images that happen to lie within are wrong, too
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
            before, after = (set(kept.tolist()) for kept in (labels, labels[self.kept()]))
            if empty := [self.source.class_names[label] for label in sorted(before - after)]:
                raise ValueError(
                    f"all images of the classes {', '.join(empty[:NAMED])} are damaged: {self._named()}"
                )

    def _named(self) -> str:
        named = [
            f"{self.source.place(k)} ({what})" for k, what in list(self.damaged.items())[:NAMED]
        ]
        more = f", and {len(self.damaged) - NAMED:,} more" if len(self.damaged) > NAMED else ""
        several = f"{len(self.damaged):,} images: " if len(self.damaged) > 1 else ""
        return several + ", ".join(named) + more

    def kept(self) -> Tensor:
        """The indices of the sound images."""
        return torch.tensor([k for k in range(self.source.shape[0]) if k not in self.damaged])

    def notes(self) -> tuple[str, ...]:
        """What was skipped."""
        count = len(self.damaged)
        names = [self.source.place(k) for k in list(self.damaged)[:NAMED]]
        more = f" and {count - NAMED:,} more" if count > NAMED else ""
        what = f"{WARNING}{count:,} damaged {'image' if count == 1 else 'images'} skipped: {', '.join(names)}{more}"
        return (what,) if count else ()


@dataclass(frozen=True)
class _Head:
    """What comes before the images."""

    shape: tuple[int, ...]
    labels: Tensor | None
    class_names: tuple[str, ...]
    stamp: str
    notes: tuple[str, ...] = ()

    def bytes(self, fingerprint: str, length: int | None = None) -> bytes:
        """Header and labels, in `length` bytes: equally long for every fingerprint."""
        labels = b"" if self.labels is None else self.labels.numpy().astype("<i8").tobytes()
        meta = {"stamp": self.stamp, "class_names": json.dumps(self.class_names), "fingerprint": fingerprint,
                "notes": json.dumps(self.notes)}  # fmt: skip
        header: dict[str, Any] = {"__metadata__": meta}
        if self.labels is not None:
            header["labels"] = {
                "dtype": "I64",
                "shape": [len(self.labels)],
                "data_offsets": [0, len(labels)],
            }
        offsets = [len(labels), len(labels) + math.prod(self.shape)]
        header["images"] = {"dtype": "U8", "shape": list(self.shape), "data_offsets": offsets}
        meta["checksum"] = _checksum(header)
        text = json.dumps(header).encode()
        text += b" " * (-len(text) % 8 if length is None else length - 8 - len(text) - len(labels))
        assert length is None or 8 + len(text) + len(labels) == length, (
            "the notes are longer than their room"
        )
        return len(text).to_bytes(8, "little") + text + labels


def _checksum(header: dict[str, Any]) -> str:
    meta = {key: value for key, value in header["__metadata__"].items() if key != "checksum"}
    return hashlib.sha256(
        json.dumps({**header, "__metadata__": meta}, sort_keys=True).encode()
    ).hexdigest()


def _read(path: Path, name: str, stamp: str) -> ImageData | None:
    """The images of a cache file; None where it is missing, damaged, unfinished or of another
    stamp."""
    try:
        with path.open("rb") as file:
            return _mapped(file, name, stamp)
    except FileNotFoundError:
        return None


def _mapped(file: BinaryIO, name: str, stamp: str | None = None) -> ImageData | None:
    """The same of an open file; without a stamp of an unfinished one, too."""
    length = int.from_bytes(file.read(8), "little")
    try:
        header = json.loads(file.read(min(length, LONGEST_HEADER)))
        meta, images, labels = header["__metadata__"], header["images"], header.get("labels")
        whole = meta["checksum"] == _checksum(header)
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
    if not whole or os.fstat(file.fileno()).st_size != 8 + length + images["data_offsets"][1]:
        return None
    if stamp is not None and (meta["stamp"] != stamp or meta["fingerprint"] == UNKNOWN):
        return None
    class_names = tuple(json.loads(meta["class_names"]))
    read = (
        None
        if labels is None
        else torch.from_numpy(np.fromfile(file, "<i8", labels["shape"][0]).astype(np.int64))
    )
    offset = 8 + length + images["data_offsets"][0]
    pixels = np.memmap(file, np.uint8, "r", offset, tuple(images["shape"]))
    with warnings.catch_warnings():
        warnings.filterwarnings(
            "ignore", "The given NumPy array is not writable"
        )  # as it is meant to be
        data = ImageData(
            name,
            torch.from_numpy(pixels),
            read,
            class_names,
            tuple(json.loads(meta.get("notes", "[]"))),
        )
    if meta["fingerprint"] != UNKNOWN:
        vars(data)["fingerprint"] = meta[
            "fingerprint"
        ]  # where `cached_property` looks: 600 GB are not read for it
    return data
