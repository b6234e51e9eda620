"""Images of one's own, whatever holds them:

| `root`                                 | read as                                                                    |
|----------------------------------------|----------------------------------------------------------------------------|
| a folder                               | images, or a folder of images for each class                               |
| .zip, .tar, .tar.gz, .bz2, .xz, .zst   | such a folder                                                              |
| .npz, .npy                             | an array (N, H, W) or (N, H, W, C) of 8 bits, and labels if there are any  |
| .arrow, .parquet, or a folder of these | a table of Hugging Face's `datasets`, as `save_to_disk` or the Hub keep it |

What is needed to know whether a file of decoded images is still that of `root` is found out without
opening an image."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from kaccore.data import array_files
from kaccore.data.cache import Cached, Source, in_order
from kaccore.data.class_names import legible
from kaccore.data.endings import ending, readable
from kaccore.data.found import Found, spread
from kaccore.data.images import ImageData
from kaccore.data.tree import Tree, Walk, arrange, version, walked

TABLES = (".arrow", ".parquet")
MEASURED = 5000  # files whose heads are looked at, at most


@dataclass(frozen=True)
class Own:
    """Images that have been looked up in `root`.

    stamp  changes when they do
    find   finds them one by one; takes a folder for what has to be unpacked, or None where nothing is to be read
    notes  lines for people that were found on the way, and are so anew every time
    """

    root: Path
    split: str | None
    cache: Path | None
    stamp: str
    find: Callable[[Path | None], Found]
    notes: tuple[str, ...] = ()

    def cached(self, size: int, background: tuple[int, int, int], skip_damaged: bool) -> Cached:
        """Where they are kept once they are decoded; of a file beside it."""
        settings: dict[str, Any] = {"size": size, "background": background, "split": self.split}
        settings |= {"skip_damaged": skip_damaged}
        if self.root.is_file():
            return Cached(
                "folder",
                self.root.parent,
                self.cache,
                {**settings, "file": self.root.name},
                self.stamp,
            )
        return Cached("folder", self.root, self.cache, settings, self.stamp)

    def source(
        self, size: int, background: tuple[int, int, int], skip_damaged: bool, folder: Path
    ) -> Source:
        """All of them, to be decoded; what has to be unpacked is in `folder`, where that is
        there."""
        from kaccore.data.pixels import Decoder

        found = self.find(folder if folder.is_dir() else Path(tempfile.gettempdir()))
        decoder = Decoder(size, background)
        return Source(
            (found.count, 3, size, size),
            lambda i: _decoded(decoder, found, i),
            found.place,
            None if found.labels is None else torch.from_numpy(found.labels),
            found.class_names,
            lambda: (*found.notes, *decoder.notes()),
            found.close,
            skip_damaged,
        )

    def told(self, data: ImageData) -> ImageData:
        """The same images with the notes of this look at them."""
        told = replace(data, notes=in_order([*self.notes, *data.notes]))
        vars(told)["fingerprint"] = data.fingerprint  # known from the cache: nothing is read for it
        return told


def look_up(root: Path, split: str | None, cache: Path | None) -> Own:
    """What `root` holds; raises FileNotFoundError or ValueError where that is no image, or `split`
    is not there."""
    if root.is_file():
        return _file(root, split, cache)
    if (
        (root / "dataset_dict.json").is_file()
        or (root / "state.json").is_file()
        or any(root.glob("*.arrow"))
    ):
        return _table(root, split, cache)
    walk = walked(root, cache)
    try:
        tree = arrange(str(root), walk.files, walk.folders, walk.links, split, walk.stores)
    except (FileNotFoundError, ValueError) as error:
        inside = {ending(path) for path in walk.files}
        if ".parquet" in inside and not inside & readable().keys():
            return _table(root, split, cache)
        _check_no_table(root, walk.files)
        if isinstance(error, ValueError):
            raise
        whole = sorted(
            path
            for path in walk.files
            if ending(path) in (".zip", ".tar", ".gz", ".xz", ".npz", ".npy")
        )
        hint = f": give {root / whole[0]} itself as root" if whole else ""
        raise FileNotFoundError(f"{error}{hint}") from None
    prefix = "" if split is None else f"{split}/"
    _check_no_table(root, [path for path in walk.files if path.startswith(prefix)])
    stamp = walk.stamp(prefix + path for path in tree.paths)
    return Own(root, split, cache, stamp, lambda _: _found(tree, walk, prefix), tree.notes)


def _check_no_table(root: Path, paths: Iterable[str]) -> None:
    """Raises ValueError where tables of images lie beside image files: of which of them is the data
    set?"""
    paths = sorted(paths)
    found = [path for path in paths if ending(path) == ".parquet"]
    if not found:
        return
    from kaccore.data import tables  # with pyarrow

    table = next((root / path for path in found if tables.holds_images(root / path)), None)
    image = next((path for path in paths if ending(path) in readable()), None)
    if table is None or image is None:
        return
    apart = not any(
        (root / path).is_relative_to(table.parent) for path in paths if ending(path) in readable()
    )
    remedy = f"give {table.parent if apart else table} as root, or move either elsewhere"
    if not apart and sum((root / path).parent == table.parent for path in found) > 1:
        remedy = "move the tables into a folder of their own and give that as root"
    raise ValueError(
        f"{root} has tables of images, such as {table}, beside images, such as {image}: {remedy}"
    )


def files_stamp(root: Path, files: Iterable[Path]) -> str:
    """A hash that changes when one of the files is written, removed, or another takes its place."""
    digest = hashlib.sha256()
    for file in files:
        within = str(file).removeprefix(str(root))
        mark = version(file.stat()) if file.exists() else ()
        digest.update("\0".join([within, *map(str, mark), "\n"]).encode(errors="surrogateescape"))
    return digest.hexdigest()


def _file(root: Path, split: str | None, cache: Path | None) -> Own:
    kind = root.suffix.lower()
    if kind in TABLES:
        return _table(root, split, cache)
    stamp = files_stamp(root, [root])
    if kind in array_files.ENDINGS:
        return Own(root, split, cache, stamp, lambda _: array_files.find(root, split))
    from kaccore.data import archives

    if not archives.is_archive(root):
        raise ValueError(f"{root} is neither a folder nor a file of a kind that is read")
    return Own(root, split, cache, stamp, partial(archives.find, root, split))


def _table(root: Path, split: str | None, cache: Path | None) -> Own:
    from kaccore.data import tables  # with pyarrow

    files = tables.shards(root, split)
    stamp = files_stamp(root, [*files, *tables.beside(root, files)])
    return Own(root, split, cache, stamp, lambda _: tables.find(root, files))


def _found(tree: Tree, walk: Walk, prefix: str) -> Found:
    place = lambda i: os.path.join(walk.root, prefix + tree.paths[i])  # noqa: E731
    return Found(
        len(tree.paths),
        lambda i: open(place(i), "rb"),  # whoever asks closes it
        place,
        None if tree.targets is None else np.array(tree.targets, np.int64),
        legible(tree.classes),
        tree.formats,
        tree.left_out,
        (),
        spread(len(tree.paths), MEASURED),
    )


def _decoded(decoder: Callable[[Any], Any], found: Found, index: int) -> Any:
    item = found.item(index)
    if isinstance(item, np.ndarray):
        return decoder(item)
    with item:
        return decoder(item)
