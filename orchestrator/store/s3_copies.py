"""Copies on this machine of objects that lie elsewhere, found again by every process of this
user."""

import hashlib
import os
import shutil
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from tempfile import mkdtemp

from orchestrator.host import machine
from orchestrator.store.folder import Folder

# beyond so much those go, the oldest first, that were not used for so long
KEEP_BYTES = 20e9
KEEP_SECONDS = 3600.0


def copy_of(what: str, name: str, download: Callable[[Path], None], anew: bool = False) -> Path:
    """The copy, called `name`, of `what`, a text that changes with its content; `download` writes
    it where it is missing, or `anew` where it may be damaged."""
    copy = _copies() / hashlib.sha256(what.encode()).hexdigest()[:32] / name
    if anew:
        shutil.rmtree(copy.parent, ignore_errors=True)
    if copy.exists():
        os.utime(copy.parent)
        return copy
    _make_room()
    aside = Path(mkdtemp(dir=_copies(), prefix="."))
    try:
        download(aside / name)
        with suppress(OSError):  # another process was faster
            aside.rename(copy.parent)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return copy


def _copies() -> Path:
    cache = os.path.expanduser(os.environ.get("XDG_CACHE_HOME") or "~/.cache")
    folder = Path(cache) / "kacflow" / "s3"
    if (
        cache.startswith("~") or Folder(folder).problem()
    ):  # no home folder, or none that can be written
        folder = machine.temporary_folder() / "s3"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _make_room() -> None:
    used = sorted(
        (each.stat().st_mtime, each)
        for each in _copies().iterdir()
        if not each.name.startswith(".")
    )
    sizes = {each: sum(p.stat().st_size for p in each.iterdir()) for _, each in used}
    for when, each in used:
        if sum(sizes.values()) <= KEEP_BYTES or time.time() - when < KEEP_SECONDS:
            return
        shutil.rmtree(each, ignore_errors=True)
        del sizes[each]
