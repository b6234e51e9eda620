"""The images of a folder and their classes, by their paths alone: nothing is opened, so that many
are found quickly."""

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
    counted,
    ending,
    is_store,
    left_out,
    listed,
    of_stores,
    readable,
    shown,
)


@dataclass(frozen=True)
class Tree:
    """Images in the order of their paths, which are relative to `where` and have / between their
    parts.

    targets  the number of each image's class; none where there are no classes
    classes  the folders' names
    """

    where: str
    paths: list[str]
    targets: list[int] | None
    classes: tuple[str, ...]
    left_out: Counter[str]
    notes: tuple[str, ...]

    @property
    def formats(self) -> Counter[str]:
        """How many images have which ending."""
        return Counter(map(ending, self.paths))


@dataclass
class Walk:
    """All that is shown under a folder: each real file and each real folder once, whatever links
    lead there.

    files  path -> what changes when the file does, see `version`
    links  those that were not followed, and why
    stores  folders of results of this project, in which nothing is looked at
    """

    root: str
    apart: str | None = None  # a folder that is no part of it: that of the cache
    files: dict[str, tuple[int, int, int]] = field(default_factory=dict)
    folders: list[str] = field(default_factory=list)
    links: dict[str, str] = field(default_factory=dict)
    stores: list[str] = field(default_factory=list)
    seen: set[str] = field(default_factory=set)
    waiting: list[str] = field(default_factory=list)

    def all(self) -> Walk:
        """Look at everything: real files first, so that of a file and a link to it the file is
        taken."""
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
            if real in self.seen or real == self.apart:
                continue
            self.seen.add(real)
            with os.scandir(real) as opened:
                entries = [entry for entry in opened if shown(entry.name)]
            if path and is_store({entry.name for entry in entries}):
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
            self.links[path] = "to what is not there"
            return
        if target in self.seen or target in real or f"{root}/".startswith(f"{target.rstrip('/')}/"):
            self.links[path] = "to what is read already"
        elif stat.S_ISDIR(status.st_mode):
            self._visit(target, path)
        elif stat.S_ISREG(status.st_mode):
            real.add(target)
            self._add(path, status)

    def _add(self, path: str, status: os.stat_result) -> None:
        self.files[path] = version(status)

    def stamp(self, paths: Iterable[str]) -> str:
        """A hash that changes when one of the files is added, removed or written."""
        digest = hashlib.sha256()
        for path in paths:
            size, written, changed = self.files[path]
            digest.update(
                f"{path}\0{size}\0{written}\0{changed}\n".encode(errors="surrogateescape")
            )
        return digest.hexdigest()


def version(status: os.stat_result) -> tuple[int, int, int]:
    """What changes when a file is written, renamed or replaced: its size, and the times of writing
    and of change in ns.

    Whoever sets the time of writing back, as `cp -p` and `touch -r` do, cannot set back that of
    change. The number of the file's node would add nothing, and is another at every mount of some
    network file systems."""
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
    """The images among `files`, with the folders at the top as classes; of those under the folder
    `split` alone.

    `stores` are folders that were left out; of what is `packed` no folder can be given as root.

    Raises FileNotFoundError where there are none, ValueError for a class without one, a `split`
    that is not there, and images beside folders of classes."""
    files, tops = list(files), sorted({path.partition("/")[0] for path in folders})
    if split is not None:
        if split not in tops:
            raise ValueError(
                f"there is no folder {split} in {where}, which has {listed(tops) or 'none'}"
            )
        inside, where = f"{split}/", f"{where.rstrip('/')}/{split}"
        files, folders = (
            [path.removeprefix(inside) for path in paths if path.startswith(inside)]
            for paths in (files, folders)
        )
        tops = sorted({path.partition("/")[0] for path in folders})
        links = {path: why for path, why in links.items() if path.startswith(inside)}
        stores = [path for path in stores if path.startswith(inside)]
    endings = readable()
    images = [path for path in files if ending(path) in endings]
    others = Counter(ending(path) for path in files if ending(path) not in endings)
    beside = sorted(path for path in images if "/" not in path)
    if tops and beside:
        raise ValueError(
            f"{where} has images, such as {beside[0]}, beside folders, such as {tops[0]}"
        )
    _check_filled(where, images, tops, files, others)
    images.sort(key=_order)
    numbers = {name: i for i, name in enumerate(tops)}
    targets = [numbers[path.partition("/")[0]] for path in images] if tops else None
    first = "".join(tops[:1])
    remedy = f"give {where}/{first} as root"
    if packed:
        remedy = f"set `split` to {first}" if split is None else f"pack {first} alone"
    notes = (
        *_of_classes(where, tops, images, remedy),
        *left_out(others),
        *_of_links(links),
        *of_stores(stores),
    )
    return Tree(where, images, targets, tuple(tops), others, notes)


def _order(path: str) -> tuple[str, str, str]:
    """By class, then folder, then name, as torchvision has it."""
    folder, _, name = path.rpartition("/")
    return path.partition("/")[0] if folder else "", folder, name


def _check_filled(
    where: str, images: list[str], tops: list[str], files: list[str], others: Counter[str]
) -> None:
    found = f"; there are files of other kinds: {counted(others)}" if others else ""
    if not images:
        raise FileNotFoundError(f"no images ({COMMON}) in {where} or in a folder of it{found}")
    filled = {path.partition("/")[0] for path in images}
    if empty := [top for top in tops if top not in filled]:
        inside = Counter(ending(path) for path in files if path.partition("/")[0] in set(empty))
        what = f" but {counted(inside)}" if inside else ""
        raise ValueError(
            f"{where} has no images{what} in the classes {listed(empty)}: fill or remove them"
        )


def _of_classes(where: str, tops: list[str], images: list[str], remedy: str) -> Iterable[str]:
    """Warnings where folders are hardly meant to be classes; `remedy` makes the folders in the
    first the classes."""
    if splits := [top for top in tops if top.lower() in SPLITS]:
        what = f"warning: the folders {' and '.join(splits)} of {where} are taken for classes"
        yield f"{what}: set `split` to the one whose images are wanted"
    inner = {"/".join(path.split("/")[:2]) for path in images if path.count("/") > 1}
    if (
        len(tops) == 1
        and not splits
        and len(inner) > 1
        and all(path.count("/") > 1 for path in images)
    ):
        what = f"warning: {tops[0]} is the only class, its images lie in {len(inner)} folders"
        yield f"{what}: {remedy} if these are the classes"


def _of_links(links: dict[str, str]) -> Iterable[str]:
    for why in sorted(set(links.values())):
        paths = sorted(path for path, reason in links.items() if reason == why)
        yield f"warning: {len(paths):,} {'link' if len(paths) == 1 else 'links'} left out, {why}: {listed(paths)}"


def walked(root: Path, apart: Path | None) -> Walk:
    """What is in the folder `root`, but for what is in the folder `apart`."""
    return Walk(str(root), None if apart is None else os.path.realpath(apart)).all()
