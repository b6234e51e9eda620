"""Files that --out names. Nothing is lost by a slip: a file is replaced only where this project has
written it, so that the same command can be run again, and nothing is written among training
images."""

import mmap
import re
from pathlib import Path

from orchestrator.settings.blocks import Data
from orchestrator.settings.faults import ConfigError, Fault, describe
from orchestrator.store.training_images import is_among_images
from orchestrator.work.marks import MADE

EXPORTED = re.compile(
    rb'made_by\\?": ?\\?"kacflow'
)  # in each format of `export`; in safetensors it is quoted twice
IN_ARRAYS = (
    b"seeds.npy",
    b"settings.npy",
)  # the names of `sample`'s arrays stand in an npz as they are


def faults(out: Path) -> list[Fault]:
    """What is wrong with a file's name: its folder is missing, or something else is there."""
    folder, what = out.absolute().parent, ""
    if out.is_dir():
        what = "which is a folder: expected the name of a file"
    elif not folder.is_dir():
        what = f"but {folder} is no folder"
    elif out.exists() and not out.is_file():
        what = "which is a device or the like: expected the name of a file"
    elif out.exists() and not _ours(out):
        what = "which is there and was not written by this command: give another name, or remove it"
    return [Fault("--out", "", f"got {out}, {what}")] if what else []


def check_apart(out: Path, data: Data) -> None:
    """Raise ConfigError where `out` would be read as one of the images of `data`."""
    if is_among_images(out, data):
        what = f"which would be read as a training image, since it is in data.root, {describe(data.root)}"
        raise ConfigError([Fault("--out", "", f"got {out}, {what}: give a name in another folder")])


def _ours(file: Path) -> bool:
    """Whether this project has written `file`; there is nothing to lose in an empty one."""
    try:
        if not file.stat().st_size:
            return True
        with file.open("rb") as f, mmap.mmap(f.fileno(), 0, access=mmap.ACCESS_READ) as content:
            if content.find(MADE) >= 0 or all(content.find(name) >= 0 for name in IN_ARRAYS):
                return True
            return EXPORTED.search(content) is not None
    except OSError:  # what cannot be read is not known to be ours
        return False
