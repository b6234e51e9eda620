"""A cache of decoded images: a file that is written once and then mapped into memory, so that no
epoch decodes a JPEG again.

The file is a safetensors file of `images` (N, C, H, W) uint8 and, if there are any, `labels` (N,)
int64. It is written under a lock to a temporary file, in parts, and put in place by an atomic
rename: one process writes, and no process reads an incomplete file. Its header has the fingerprint,
notes on what was done, and a checksum of the header."""

from __future__ import annotations

import errno
import hashlib
import json
import math
import os
import shutil
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from torch import Tensor

from kaccore.data.decoding import NOTES_ROOM, Decoding, ImageSource, ordered_notes
from kaccore.data.images import ImageData

FORMAT = 3  # raised when the same files and settings give other pixels
FOLDER = ".kaccore"  # in the data's root
LONGEST_HEADER = 100_000_000  # bytes, as safetensors has it
UNKNOWN = "0" * 64  # the fingerprint of a file that is being written


@dataclass(frozen=True)
class ImageCache:
    """The cache file of a data set's decoded images.

    cache     the file's folder, by default `.kaccore` in `root`
    settings  everything that its content depends on, besides the original files
    stamp     changes when the original files do
    """

    name: str
    root: Path
    cache: Path | None
    settings: dict[str, Any]
    stamp: str = ""

    @property
    def folder(self) -> Path:
        """The folder of the cache file."""
        return self.cache or self.root / FOLDER

    @property
    def path(self) -> Path:
        """The cache file."""
        content = {"format": FORMAT, **self.settings}
        content |= {} if self.cache is None else {"root": str(self.root.resolve())}
        key = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:8]
        return self.folder / f"{self.name}-{key}.safetensors"

    def read(self) -> ImageData | None:
        """The images from the cache file; None if it is missing, damaged or stale."""
        return _read(self.path, self.name, self.stamp)

    def read_or_write(self, source: Callable[[], ImageSource], write: bool = True) -> ImageData:
        """The images from the cache file. If it is missing, damaged or stale, `source` is decoded
        and the file written first; without `write` into a temporary file, which the mapped images
        keep alive.

        Raises PermissionError if the folder cannot be written, OSError if the disk has too little
        room, ValueError for damaged images."""
        data = self.read()  # without the lock first: a valid file may be in a read-only folder
        if data is not None:
            return data
        if not write:
            with tempfile.TemporaryDirectory(prefix="kaccore-") as folder:
                return self._write_and_read(Path(folder) / self.path.name, source)
        with locked(self.path):
            data = self.read()  # another process may have written it while this one waited
            return self._write_and_read(self.path, source) if data is None else data

    def _write_and_read(self, path: Path, source: Callable[[], ImageSource]) -> ImageData:
        images = source()
        try:
            _write(path, self.name, self.stamp, images)
        finally:
            images.close()
        data = _read(path, self.name, self.stamp)
        assert data is not None, "just written"
        return data


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock of `path`, a file next to it. Raises PermissionError if its folder cannot be
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


def _write(path: Path, name: str, stamp: str, source: ImageSource) -> None:
    """Decode `source` and write the cache file `path`. The images begin after room for the longest
    header and all labels; the header is padded to that length."""
    # one name for all writers: a killed writer's file is overwritten
    temporary = path.with_name(f"{path.name}.part")
    temporary.unlink(missing_ok=True)
    _check_room(path.parent, name, source.shape)
    full_header = _Header(source.shape, source.labels, source.class_names, stamp)
    first = len(full_header.bytes(UNKNOWN)) + NOTES_ROOM
    if source.labels is not None:
        first += source.labels.nbytes
    decoding = Decoding(name, path.parent, source)
    try:
        with temporary.open("wb") as file:
            file.seek(first)
            for part in decoding.parts():
                file.write(part.data)
        sound = decoding.sound_indices()
        labels = None if source.labels is None else source.labels[sound]
        notes = ordered_notes([*decoding.notes(), *source.notes()])
        shape = (len(sound), *source.shape[1:])
        header = replace(full_header, shape=shape, labels=labels, notes=notes)
        with temporary.open("r+b") as file:
            file.write(header.bytes(UNKNOWN, first))
            file.seek(0)
            data = _read_open_file(file, name)
            assert data is not None
            file.seek(0)
            file.write(header.bytes(data.fingerprint, first))
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)  # an incomplete file must not keep a disk full
        raise


def _check_room(folder: Path, name: str, shape: tuple[int, ...]) -> None:
    nbytes = math.prod(shape)
    free = shutil.disk_usage(folder).free
    if nbytes > free:
        need = f"{name}: its {shape[0]:,} decoded images take {nbytes / 1e9:,.1f} GB"
        what = f"{need}, {folder} has {free / 1e9:,.1f} GB free: give another folder as `cache`"
        raise OSError(errno.ENOSPC, what)


@dataclass(frozen=True)
class _Header:
    """The header and the labels, which precede the images in the file."""

    shape: tuple[int, ...]
    labels: Tensor | None
    class_names: tuple[str, ...]
    stamp: str
    notes: tuple[str, ...] = ()

    def bytes(self, fingerprint: str, length: int | None = None) -> bytes:
        """Header and labels, padded to `length` bytes; the length does not depend on `fingerprint`."""
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
    """The images of a cache file; None if it is missing, damaged, unfinished or has another
    stamp."""
    try:
        with path.open("rb") as file:
            return _read_open_file(file, name, stamp)
    except FileNotFoundError:
        return None


def _read_open_file(file: BinaryIO, name: str, stamp: str | None = None) -> ImageData | None:
    """As `_read`, for an open file; without a stamp also of an unfinished file."""
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
    numbers = None
    if labels is not None:
        values = np.fromfile(file, "<i8", labels["shape"][0])
        numbers = torch.from_numpy(values.astype(np.int64))
    notes = tuple(json.loads(meta.get("notes", "[]")))
    offset = 8 + length + images["data_offsets"][0]
    pixels = np.memmap(file, np.uint8, "r", offset, tuple(images["shape"]))
    with warnings.catch_warnings():  # that it is not writable is intended
        warnings.filterwarnings("ignore", "The given NumPy array is not writable")
        data = ImageData(name, torch.from_numpy(pixels), numbers, class_names, notes)
    if meta["fingerprint"] != UNKNOWN:
        # sets the `cached_property`, so that up to 600 GB need not be read for it
        vars(data)["fingerprint"] = meta["fingerprint"]
    return data
