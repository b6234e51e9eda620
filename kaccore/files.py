"""Files written so that a reader sees a whole one or none, and their checksums."""

import hashlib
import json
import os
from contextlib import suppress
from pathlib import Path
from typing import Any


class CorruptFileError(ValueError):
    """A file is not what was written: truncated, or with another checksum."""


def write_bytes(path: Path, data: bytes) -> str:
    """Write aside, flush to the disk, rename; returns the sha256 of what was written."""
    aside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with aside.open("wb") as f:
            f.write(data)
            f.flush()
            os.fsync(f.fileno())
        aside.replace(path)
    except OSError:
        with suppress(OSError):
            aside.unlink()  # a full disk is not filled further by what could not be written
        raise
    return hashlib.sha256(data).hexdigest()


def write_json(path: Path, value: Any) -> str:
    """`value` as indented JSON; returns its sha256."""
    return write_bytes(path, (json.dumps(value, indent=1) + "\n").encode())


def file_sha256(path: Path) -> str:
    """The sha256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest()
