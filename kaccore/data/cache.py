"""Images decoded once into a file that is mapped into memory from then on: no epoch decodes a JPEG again.

The file is a safetensors file of `images` (N, C, H, W) uint8 and, where there are any, `labels` (N,) int64. It is
written aside in parts and renamed, under a lock, so that one process writes and nobody takes half a file for a whole
one. The fingerprint is kept in its header, which has a checksum of its own.
"""

from __future__ import annotations

import errno
import hashlib
import json
import math
import os
import shutil
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from torch import Tensor

from kaccore.arrays import rows_at_once
from kaccore.data.images import ImageData

FORMAT = 1  # raised when other pixels come of the same files and settings
FOLDER = ".kaccore"  # in the data's root
LONGEST_HEADER = 100_000_000  # bytes, as safetensors has it
REPORT_SECONDS = 30.0
UNKNOWN = "0" * 64  # the fingerprint of a file that is being written


@dataclass(frozen=True, eq=False)
class Source:
    """Images that are read one at a time.

    shape   (N, C, H, W)
    pixels  index -> (C, H, W) uint8; may raise whatever a damaged image makes its decoder raise
    place   index -> the file, or the like, that holds this image, for messages
    close   called when all is read
    """

    shape: tuple[int, int, int, int]
    pixels: Callable[[int], np.ndarray]
    place: Callable[[int], str]
    labels: Tensor | None = None
    class_names: tuple[str, ...] = ()
    close: Callable[[], None] = lambda: None


def cached(
    name: str, root: Path, cache: Path | None, settings: dict[str, Any], stamp: str, source: Callable[[], Source]
) -> ImageData:
    """The images of `source`, from their cache file; where that is missing, damaged or stale it is written first.

    `cache` is the file's folder, by default `.kaccore` in `root`; `settings` are what its content depends on; with
    another `stamp` the original files have changed. Raises PermissionError where the folder cannot be written, OSError
    where the disk has too little room, ValueError for a damaged image.
    """
    content = {"format": FORMAT, **settings, **({} if cache is None else {"root": str(root.resolve())})}
    key = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:8]
    path = (cache or root / FOLDER) / f"{name}-{key}.safetensors"
    found = _read(path, name, stamp)  # without the lock first: what is whole may lie where nothing can be written
    if found is not None:
        return found
    with locked(path):
        found = _read(path, name, stamp)
        if found is not None:  # whoever held the lock has written it
            return found
        opened = source()
        try:
            _write(path, name, stamp, opened)
        finally:
            opened.close()
        found = _read(path, name, stamp)
        assert found is not None, "just written"
        return found


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock of `path`, a file beside it. Raises PermissionError where its folder cannot be written."""
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
    aside = path.with_name(f"{path.name}.part")  # one name: what a killed writer left is written over
    nbytes = math.prod(source.shape)
    aside.unlink(missing_ok=True)
    free = shutil.disk_usage(path.parent).free
    if nbytes > free:
        need = f"{name}: its {source.shape[0]:,} decoded images take {nbytes / 1e9:,.1f} GB"
        what = f"{need}, {path.parent} has {free / 1e9:,.1f} GB free: give another folder as `cache`"
        raise OSError(errno.ENOSPC, what)
    try:
        with aside.open("wb") as file:
            file.write(_header(source, stamp, UNKNOWN))
            if source.labels is not None:
                file.write(source.labels.numpy().astype("<i8").tobytes())
            for part in _parts(path, name, source):
                file.write(part.data)
        with aside.open("r+b") as file:
            data = _mapped(file, name)
            assert data is not None
            file.seek(0)
            file.write(_header(source, stamp, data.fingerprint))
            file.flush()
            os.fsync(file.fileno())
        aside.replace(path)
    except BaseException:
        aside.unlink(missing_ok=True)  # a full disk is not filled further by what could not be written
        raise


def _parts(path: Path, name: str, source: Source) -> Iterator[np.ndarray]:
    """All images in parts of PART_BYTES; says every half a minute how far it is."""
    count, said = source.shape[0], time.monotonic()
    rows = rows_at_once(math.prod(source.shape[1:]))
    for first in range(0, count, rows):
        part = np.empty((min(rows, count - first), *source.shape[1:]), np.uint8)
        for i in range(len(part)):
            part[i] = _pixels(source, first + i)
        yield part
        if time.monotonic() > said + REPORT_SECONDS:
            said = time.monotonic()
            print(f"{name}: {first + len(part):,} of {count:,} images decoded into {path.parent}", file=sys.stderr)


def _pixels(source: Source, index: int) -> np.ndarray:
    try:
        pixels = source.pixels(index)
    except MemoryError:
        raise
    except Exception as error:  # a damaged image raises whatever its decoder comes upon
        raise ValueError(f"cannot read {source.place(index)} ({type(error).__name__}: {error})") from error
    assert pixels.shape == source.shape[1:] and pixels.dtype == np.uint8
    return pixels


def _header(source: Source, stamp: str, fingerprint: str) -> bytes:
    """What comes before the data: equally long for every fingerprint, and a multiple of 8 bytes."""
    at = 0 if source.labels is None else source.labels.nbytes
    meta = {"stamp": stamp, "class_names": json.dumps(source.class_names), "fingerprint": fingerprint}
    header: dict[str, Any] = {"__metadata__": meta}
    if source.labels is not None:
        header["labels"] = {"dtype": "I64", "shape": [len(source.labels)], "data_offsets": [0, at]}
    offsets = [at, at + math.prod(source.shape)]
    header["images"] = {"dtype": "U8", "shape": list(source.shape), "data_offsets": offsets}
    meta["checksum"] = _checksum(header)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


def _checksum(header: dict[str, Any]) -> str:
    meta = {key: value for key, value in header["__metadata__"].items() if key != "checksum"}
    return hashlib.sha256(json.dumps({**header, "__metadata__": meta}, sort_keys=True).encode()).hexdigest()


def _read(path: Path, name: str, stamp: str) -> ImageData | None:
    """The images of a cache file; None where it is missing, damaged, unfinished or of another stamp."""
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
    read = None if labels is None else torch.from_numpy(np.fromfile(file, "<i8", labels["shape"][0]).astype(np.int64))
    offset = 8 + length + images["data_offsets"][0]
    pixels = np.memmap(file, np.uint8, "r", offset, tuple(images["shape"]))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The given NumPy array is not writable")  # as it is meant to be
        data = ImageData(name, torch.from_numpy(pixels), read, class_names)
    if meta["fingerprint"] != UNKNOWN:
        vars(data)["fingerprint"] = meta["fingerprint"]  # where `cached_property` looks: 600 GB are not read for it
    return data
