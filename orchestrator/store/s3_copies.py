"""A cache of S3 objects on this machine, shared by all processes of this user."""

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

# while the cache is larger, the least recently used copies are removed if their latest use was
# longer ago
KEEP_BYTES = 20e9
KEEP_SECONDS = 3600.0


def copy_of(
    version: str, name: str, download: Callable[[Path], None], refresh: bool = False
) -> Path:
    """The copy, a file called `name`, of an object; `version` is a text that changes with its
    content. `download` writes it where it is missing; with `refresh` again, because the copy may be
    damaged."""
    copy = _cache_folder() / hashlib.sha256(version.encode()).hexdigest()[:32] / name
    if refresh:
        shutil.rmtree(copy.parent, ignore_errors=True)
    if copy.exists():
        os.utime(copy.parent)  # the time of its latest use
        return copy
    _evict()
    temporary = Path(mkdtemp(dir=_cache_folder(), prefix="."))
    try:
        download(temporary / name)
        with suppress(OSError):  # another process was faster
            temporary.rename(copy.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return copy


def _cache_folder() -> Path:
    cache = os.path.expanduser(os.environ.get("XDG_CACHE_HOME") or "~/.cache")
    folder = Path(cache) / "kacflow" / "s3"
    if cache.startswith("~") or Folder(folder).problem():  # no home folder, or not writable
        folder = machine.temporary_folder() / "s3"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _evict() -> None:
    """Remove the least recently used copies while the cache is too large."""
    copies = [copy for copy in _cache_folder().iterdir() if not copy.name.startswith(".")]
    by_last_use = sorted((copy.stat().st_mtime, copy) for copy in copies)
    sizes = {copy: sum(file.stat().st_size for file in copy.iterdir()) for copy in copies}
    for last_use, copy in by_last_use:
        if sum(sizes.values()) <= KEEP_BYTES or time.time() - last_use < KEEP_SECONDS:
            return
        shutil.rmtree(copy, ignore_errors=True)
        del sizes[copy]
