"""The images of a folder and their classes, from their paths alone: no file is opened, which is quick
also for many images."""

from __future__ import annotations

import hashlib
import os
import stat
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from kaccore.data.endings import (
    COMMON,
    SPLITS,
    counts_text,
    ending_of,
    is_result_store,
    is_visible,
    left_out_notes,
    list_text,
    readable,
    store_notes,
)


@dataclass(frozen=True)
class Tree:
    """Images in the order of their paths, which are relative to `where` and separated by /.

    targets   the class number of each image; None without classes
    classes   the folders' names
    left_out  ending -> number of other files
    """

    where: str
    paths: list[str]
    targets: list[int] | None
    classes: tuple[str, ...]
    left_out: Counter[str]
    notes: tuple[str, ...]

    @property
    def formats(self) -> Counter[str]:
        """Ending -> number of images with it."""
        return Counter(map(ending_of, self.paths))


@dataclass
class Walk:
    """All visible files and folders under `root`, each real one once, whatever links lead there.

    excluded  a folder that is left out: that of the cache
    files     path -> its `file_version`, which changes when the file does
    links     path of a link that was not followed -> why
    stores    result stores of this project, which are not read
    """

    root: str
    excluded: str | None = None
    files: dict[str, tuple[int, int, int]] = field(default_factory=dict)
    folders: list[str] = field(default_factory=list)
    links: dict[str, str] = field(default_factory=dict)
    stores: list[str] = field(default_factory=list)
    seen: set[str] = field(default_factory=set)
    waiting: list[str] = field(default_factory=list)

    def all(self) -> Walk:
        """Walk everything: real files first, so that a file has priority over a link to it."""
        self._visit(os.path.realpath(self.root), "")
        while self.waiting:
            links, self.waiting = sorted(self.waiting), []
            real = {os.path.realpath(os.path.join(self.root, path)) for path in self.files}
            for path in links:
                self._follow(path, real)
        return self

    def _visit(self, folder: str, path: str) -> None:
        todo = [(folder, path)]
        while todo:
            real, path = todo.pop()
            if real in self.seen or real == self.excluded:
                continue
            self.seen.add(real)
            with os.scandir(real) as opened:
                entries = [entry for entry in opened if is_visible(entry.name)]
            if path and is_result_store({entry.name for entry in entries}):
                self.stores.append(path)
                continue
            if path:
                self.folders.append(path)
            for entry in entries:
                inside = f"{path}/{entry.name}" if path else entry.name
                if entry.is_symlink():
                    self.waiting.append(inside)
                elif entry.is_dir():
                    todo.append((entry.path, inside))
                elif entry.is_file():
                    self._add(inside, entry.stat())

    def _follow(self, path: str, real: set[str]) -> None:
        target = os.path.realpath(os.path.join(self.root, path))
        root = os.path.realpath(self.root)
        try:
            status = os.stat(target)
        except OSError:
            self.links[path] = "target missing"
            return
        if target in self.seen or target in real or f"{root}/".startswith(f"{target.rstrip('/')}/"):
            self.links[path] = "target read already"
        elif stat.S_ISDIR(status.st_mode):
            self._visit(target, path)
        elif stat.S_ISREG(status.st_mode):
            real.add(target)
            self._add(path, status)

    def _add(self, path: str, status: os.stat_result) -> None:
        self.files[path] = file_version(status)

    def stamp(self, paths: Iterable[str]) -> str:
        """A hash that changes when one of the files is added, removed or written."""
        digest = hashlib.sha256()
        for path in paths:
            size, written, changed = self.files[path]
            digest.update(
                f"{path}\0{size}\0{written}\0{changed}\n".encode(errors="surrogateescape")
            )
        return digest.hexdigest()


def file_version(status: os.stat_result) -> tuple[int, int, int]:
    """A value that changes when a file is written, renamed or replaced: its size, and its times of
    modification and of status change in ns.

    `cp -p` and `touch -r` set back the time of modification, but cannot set back that of status
    change. The inode number would add nothing, and differs at every mount of some network file
    systems."""
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns


def arrange(
    where: str,
    files: Iterable[str],
    folders: Iterable[str],
    links: dict[str, str],
    split: str | None = None,
    stores: Iterable[str] = (),
    packed: bool = False,
) -> Tree:
    """The images among `files`, with the top folders as classes; with `split` only those in that
    folder.

    `stores` are folders that were left out; `packed`: they are in an archive, whose folders cannot
    be given as root.

    Raises FileNotFoundError for no images, ValueError for a class without images, a missing `split`,
    and images next to class folders."""
    files, tops = list(files), sorted({path.partition("/")[0] for path in folders})
    if split is not None:
        if split not in tops:
            raise ValueError(
                f"there is no folder {split} in {where}, which has {list_text(tops) or 'none'}"
            )
        inside, where = f"{split}/", f"{where.rstrip('/')}/{split}"
        files = [path.removeprefix(inside) for path in files if path.startswith(inside)]
        folders = [path.removeprefix(inside) for path in folders if path.startswith(inside)]
        tops = sorted({path.partition("/")[0] for path in folders})
        links = {path: why for path, why in links.items() if path.startswith(inside)}
        stores = [path for path in stores if path.startswith(inside)]
    endings = readable()
    images = [path for path in files if ending_of(path) in endings]
    others = Counter(ending_of(path) for path in files if ending_of(path) not in endings)
    loose = sorted(path for path in images if "/" not in path)
    if tops and loose:
        raise ValueError(
            f"{where} has images, such as {loose[0]}, next to folders, such as {tops[0]}"
        )
    _check_filled(where, images, tops, files, others)
    images.sort(key=_sort_key)
    numbers = {name: i for i, name in enumerate(tops)}
    targets = [numbers[path.partition("/")[0]] for path in images] if tops else None
    first = "".join(tops[:1])
    remedy = f"give {where}/{first} as root"
    if packed:
        remedy = f"set `split` to {first}" if split is None else f"pack {first} alone"
    notes = (
        *_class_notes(where, tops, images, remedy),
        *left_out_notes(others),
        *_link_notes(links),
        *store_notes(stores),
    )
    return Tree(where, images, targets, tuple(tops), others, notes)


def _sort_key(path: str) -> tuple[str, str, str]:
    """Sorts by class, then folder, then name, as torchvision does."""
    folder, _, name = path.rpartition("/")
    return path.partition("/")[0] if folder else "", folder, name


def _check_filled(
    where: str, images: list[str], tops: list[str], files: list[str], others: Counter[str]
) -> None:
    """Raise if there are no images, or a class without images."""
    if not images:
        kinds = f"; there are files of other kinds: {counts_text(others)}" if others else ""
        raise FileNotFoundError(f"no images ({COMMON}) in {where} or in a folder of it{kinds}")
    filled = {path.partition("/")[0] for path in images}
    empty = [top for top in tops if top not in filled]
    if empty:
        inside = Counter(ending_of(path) for path in files if path.partition("/")[0] in empty)
        what = f" but {counts_text(inside)}" if inside else ""
        raise ValueError(
            f"{where} has no images{what} in the classes {list_text(empty)}: fill or remove them"
        )


def _class_notes(where: str, tops: list[str], images: list[str], remedy: str) -> Iterable[str]:
    """Warnings if folders are probably not meant as classes; with `remedy` the folders inside the
    first one become the classes."""
    splits = [top for top in tops if top.lower() in SPLITS]
    if splits:
        what = f"warning: the folders {' and '.join(splits)} of {where} are read as classes"
        yield f"{what}: set `split` to the one whose images are wanted"
    inner = {"/".join(path.split("/")[:2]) for path in images if path.count("/") > 1}
    nested = len(inner) > 1 and all(path.count("/") > 1 for path in images)
    if len(tops) == 1 and not splits and nested:
        what = f"warning: {tops[0]} is the only class, its images are in {len(inner)} folders"
        yield f"{what}: {remedy} if these are the classes"


def _link_notes(links: dict[str, str]) -> Iterable[str]:
    for why in sorted(set(links.values())):
        paths = sorted(path for path, reason in links.items() if reason == why)
        count = f"{len(paths):,} {'link' if len(paths) == 1 else 'links'}"
        yield f"warning: {count} left out ({why}): {list_text(paths)}"


def walk_folder(root: Path, excluded: Path | None) -> Walk:
    """All files in the folder `root`, except those in the folder `excluded`."""
    return Walk(str(root), None if excluded is None else os.path.realpath(excluded)).all()
