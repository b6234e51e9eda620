"""A user's own images, in any of these forms:

| `root`                                 | read as                                                                    |
|----------------------------------------|----------------------------------------------------------------------------|
| a folder                               | images, or a folder of images for each class                               |
| .zip, .tar, .tar.gz, .bz2, .xz, .zst   | such a folder                                                              |
| .npz, .npy                             | an array (N, H, W) or (N, H, W, C) of 8 bits, and labels if there are any  |
| .arrow, .parquet, or a folder of these | a table of Hugging Face's `datasets`, as `save_to_disk` or the Hub keep it |

Whether a cache of decoded images is still up to date is decided without opening an image."""

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

from kaccore.data import array_files, table_files
from kaccore.data.cache import ImageCache
from kaccore.data.class_names import printable_names
from kaccore.data.decoding import ImageSource, ordered_notes
from kaccore.data.endings import ending_of, readable
from kaccore.data.images import ImageData
from kaccore.data.tree import Tree, Walk, arrange, file_version, walk_folder
from kaccore.data.undecoded import UndecodedImages, evenly_spaced

PACKED = (".zip", ".tar", ".gz", ".xz", ".npz", ".npy")  # files that may be a whole data set
MEASURED = 5000  # images whose sizes are read, at most


@dataclass(frozen=True)
class UserImages:
    """The images in `root`, listed but not opened.

    stamp  changes when the images do
    find   lists them one by one; takes a folder for unpacked files, or None if no image is to be read
    notes  lines from the listing, which every listing finds again
    """

    root: Path
    split: str | None
    cache: Path | None
    stamp: str
    find: Callable[[Path | None], UndecodedImages]
    notes: tuple[str, ...] = ()

    def image_cache(
        self, size: int, background: tuple[int, int, int], skip_damaged: bool
    ) -> ImageCache:
        """The cache of the decoded images; that of a file is next to the file."""
        settings: dict[str, Any] = {"size": size, "background": background, "split": self.split}
        settings |= {"skip_damaged": skip_damaged}
        root = self.root
        if root.is_file():
            settings["file"] = root.name
            root = root.parent
        return ImageCache("folder", root, self.cache, settings, self.stamp)

    def source(
        self, size: int, background: tuple[int, int, int], skip_damaged: bool, folder: Path
    ) -> ImageSource:
        """All images, for decoding; archives are unpacked into `folder`, or if it does not exist
        into the temporary folder."""
        from kaccore.data.pixels import Decoder

        images = self.find(folder if folder.is_dir() else Path(tempfile.gettempdir()))
        decoder = Decoder(size, background)
        return ImageSource(
            (images.count, 3, size, size),
            lambda i: _decode(decoder, images, i),
            images.place,
            None if images.labels is None else torch.from_numpy(images.labels),
            images.class_names,
            lambda: (*images.notes, *decoder.notes()),
            images.close,
            skip_damaged,
        )

    def with_notes(self, data: ImageData) -> ImageData:
        """The same images with the notes of this listing added."""
        noted = replace(data, notes=ordered_notes([*self.notes, *data.notes]))
        vars(noted)["fingerprint"] = data.fingerprint  # from the cache: the images are not read
        return noted


def find_images(root: Path, split: str | None, cache: Path | None) -> UserImages:
    """The images in `root`; raises FileNotFoundError or ValueError if there are none, or if there is
    no `split`."""
    if root.is_file():
        return _file(root, split, cache)
    if (
        (root / "dataset_dict.json").is_file()
        or (root / "state.json").is_file()
        or any(root.glob("*.arrow"))
    ):
        return _table(root, split, cache)
    walk = walk_folder(root, cache)
    try:
        tree = arrange(str(root), walk.files, walk.folders, walk.links, split, walk.stores)
    except (FileNotFoundError, ValueError) as error:
        inside = {ending_of(path) for path in walk.files}
        if ".parquet" in inside and not inside & readable().keys():
            return _table(root, split, cache)
        _check_no_table(root, walk.files)
        if isinstance(error, ValueError):
            raise
        packed = sorted(path for path in walk.files if ending_of(path) in PACKED)
        hint = f": give {root / packed[0]} itself as root" if packed else ""
        raise FileNotFoundError(f"{error}{hint}") from None
    prefix = "" if split is None else f"{split}/"
    _check_no_table(root, [path for path in walk.files if path.startswith(prefix)])
    stamp = walk.stamp(prefix + path for path in tree.paths)
    return UserImages(root, split, cache, stamp, lambda _: _of_tree(tree, walk, prefix), tree.notes)


def _check_no_table(root: Path, paths: Iterable[str]) -> None:
    """Raise ValueError if there are both tables of images and image files: it is ambiguous which of
    them are the data set."""
    paths = sorted(paths)
    parquet_files = [root / path for path in paths if ending_of(path) == ".parquet"]
    if not parquet_files:
        return
    from kaccore.data import tables  # with pyarrow

    table = next((file for file in parquet_files if tables.holds_images(file)), None)
    images = [path for path in paths if ending_of(path) in readable()]
    if table is None or not images:
        return
    separate = not any((root / path).is_relative_to(table.parent) for path in images)
    remedy = f"give {table.parent if separate else table} as root, or move either elsewhere"
    if not separate and sum(file.parent == table.parent for file in parquet_files) > 1:
        remedy = "move the tables into a folder of their own and give that as root"
    raise ValueError(
        f"{root} has tables of images, such as {table}, next to images, such as {images[0]}: {remedy}"
    )


def files_stamp(root: Path, files: Iterable[Path]) -> str:
    """A hash that changes when one of the files is written, removed or replaced."""
    digest = hashlib.sha256()
    for file in files:
        within = str(file).removeprefix(str(root))
        mark = file_version(file.stat()) if file.exists() else ()
        digest.update("\0".join([within, *map(str, mark), "\n"]).encode(errors="surrogateescape"))
    return digest.hexdigest()


def _file(root: Path, split: str | None, cache: Path | None) -> UserImages:
    kind = root.suffix.lower()
    if kind in table_files.ENDINGS:
        return _table(root, split, cache)
    stamp = files_stamp(root, [root])
    if kind in array_files.ENDINGS:
        return UserImages(root, split, cache, stamp, lambda _: array_files.find(root, split))
    from kaccore.data import archives

    if not archives.is_archive(root):
        raise ValueError(f"{root} is neither a folder nor a file of a known kind")
    return UserImages(root, split, cache, stamp, partial(archives.find, root, split))


def _table(root: Path, split: str | None, cache: Path | None) -> UserImages:
    from kaccore.data import tables  # with pyarrow

    files = table_files.shards(root, split)
    stamp = files_stamp(root, [*files, *tables.companion_files(root, files)])
    return UserImages(root, split, cache, stamp, lambda _: tables.find(root, files))


def _of_tree(tree: Tree, walk: Walk, prefix: str) -> UndecodedImages:
    def place(index: int) -> str:
        return os.path.join(walk.root, prefix + tree.paths[index])

    return UndecodedImages(
        len(tree.paths),
        lambda i: open(place(i), "rb"),  # the caller closes it
        place,
        None if tree.targets is None else np.array(tree.targets, np.int64),
        printable_names(tree.classes),
        tree.formats,
        tree.left_out,
        (),
        evenly_spaced(len(tree.paths), MEASURED),
    )


def _decode(decoder: Callable[[Any], Any], images: UndecodedImages, index: int) -> Any:
    item = images.item(index)
    if isinstance(item, np.ndarray):
        return decoder(item)
    with item:
        return decoder(item)
