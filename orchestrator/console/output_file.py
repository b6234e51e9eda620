"""Checks of the file of --out. An existing file is replaced only if this project has written it, so
that the same command can run again, and nothing is written among training images."""

import mmap
import re
from pathlib import Path

from orchestrator.fields.faults import ConfigError, Fault, describe
from orchestrator.methods.dataset_kind import DatasetKind
from orchestrator.store.training_images import is_among_images
from orchestrator.work.marks import MADE

# in every format of `export`; in safetensors the quotes are escaped
EXPORTED = re.compile(rb'made_by\\?": ?\\?"kacflow')
# names of the arrays of `sample`; an npz file has them uncompressed
ARRAY_NAMES = (b"seeds.npy", b"settings.npy")


def faults(out: Path) -> list[Fault]:
    """A fault where `out` cannot be written: its folder is missing, or it exists and this project
    has not written it."""
    folder = out.absolute().parent
    if out.is_dir():
        what = "which is a folder: expected the name of a file"
    elif not folder.is_dir():
        what = f"but {folder} is not a folder"
    elif not out.exists():
        return []
    elif not out.is_file():
        what = "which is a device or another special file: expected the name of a file"
    elif _is_ours(out):
        return []
    else:
        what = "which exists and was not written by this command: give another name, or remove it"
    return [Fault("--out", "", f"got {out}, {what}")]


def check_outside_images(out: Path, data: DatasetKind) -> None:
    """Raise ConfigError where `out` would be read as one of the images of `data`."""
    if is_among_images(out, data):
        what = "which would be read as a training image, since it is in data.root"
        remedy = "give a name in another folder"
        message = f"got {out}, {what}, {describe(data.root_folder)}: {remedy}"
        raise ConfigError([Fault("--out", "", message)])


def _is_ours(file: Path) -> bool:
    """Whether this project has written `file`, or it is empty."""
    try:
        if not file.stat().st_size:
            return True
        with file.open("rb") as f, mmap.mmap(f.fileno(), 0, access=mmap.ACCESS_READ) as content:
            if content.find(MADE) >= 0 or all(content.find(name) >= 0 for name in ARRAY_NAMES):
                return True
            return EXPORTED.search(content) is not None
    except OSError:  # it cannot be read, so nothing shows that it is ours
        return False
