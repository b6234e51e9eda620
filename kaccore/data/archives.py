"""Folders of images packed as .zip or .tar, read in place: nothing in them is written under its own
name."""

from __future__ import annotations

import bz2
import errno
import gzip
import io
import lzma
import shutil
import stat
import tarfile
import tempfile
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, cast

import numpy as np

from kaccore.data.class_names import legible
from kaccore.data.endings import ending, is_store, readable, shown
from kaccore.data.found import Found, spread
from kaccore.data.tree import arrange

LARGEST = 2**30  # bytes of one image: what unpacks to more is no image
COPIED = 2**24  # bytes at a time
MEASURED = 5000
PACKED: dict[bytes, Callable[[Path], Any]] = {  # how a compressed file begins
    b"\x1f\x8b": gzip.open,
    b"BZh": bz2.open,
    b"\xfd7zXZ\0": lzma.open,
    b"\x28\xb5\x2f\xfd": lambda path: _zstandard(path),
}


class Member(NamedTuple):
    """A file of an archive: its size when unpacked, and how to open it."""

    size: int
    open: Callable[[], BinaryIO]


class Archive(NamedTuple):
    """Files and folders by their paths, links that are not followed, and whether files are quickly
    opened."""

    files: dict[str, Member]
    folders: set[str]
    links: dict[str, str]
    quick: bool
    close: Callable[[], None]


def is_archive(path: Path) -> bool:
    """Whether a file is one that `find` reads, as its first bytes say."""
    if zipfile.is_zipfile(path) or tarfile.is_tarfile(path):
        return True
    with path.open("rb") as file:
        start = file.read(8)
    return any(start.startswith(sign) for sign in PACKED)


def find(path: Path, split: str | None, scratch: Path | None = None) -> Found:
    """The images in an archive of a folder of them, in the order and with the classes that the
    folder itself has.

    A folder that holds all the others is not a class but the root, and so is one at the top that
    holds all images. A compressed .tar is unpacked to a file in `scratch` that has no name, and is
    gone with this process; without `scratch` its images cannot be read, only counted. Raises
    ValueError for an archive that is damaged or whose paths lead out of it."""
    try:
        archive = _zip(path) if zipfile.is_zipfile(path) else _tar(path, scratch)
    except (
        OSError,
        EOFError,
        zipfile.BadZipFile,
        tarfile.TarError,
        lzma.LZMAError,
        RuntimeError,
    ) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise ValueError(
            f"the archive {path} cannot be read ({type(error).__name__}: {error})"
        ) from error
    files = {
        name: member for name, member in archive.files.items() if all(map(shown, name.split("/")))
    }
    folders = {name for name in archive.folders if all(map(shown, name.split("/")))}
    stores = _stores(files, folders)
    files = {name: member for name, member in files.items() if not name.startswith(stores)}
    folders = {name for name in folders if not f"{name}/".startswith(stores)}
    top, notes = _top(files, folders, split)
    tree = arrange(
        f"{path}{':' if top else ''}{top.rstrip('/')}",
        [name.removeprefix(top) for name in files],
        [
            name.removeprefix(top)
            for name in folders
            if name.startswith(top) and name != top.rstrip("/")
        ],
        archive.links,
        split,
        [store.removeprefix(top).rstrip("/") for store in stores],
        packed=True,
    )
    prefix = top if split is None else f"{top}{split}/"
    members = [files[prefix + name] for name in tree.paths]
    return Found(
        len(members),
        lambda i: _content(members[i]),
        lambda i: f"{tree.paths[i]} in {tree.where}",
        None if tree.targets is None else np.array(tree.targets, np.int64),
        legible(tree.classes),
        tree.formats,
        tree.left_out,
        (*tree.notes, *notes),
        spread(len(members), MEASURED) if archive.quick else (),
        archive.close,
    )


def _stores(files: dict[str, Member], folders: set[str]) -> tuple[str, ...]:
    """The folders of results of this project, with their slashes."""
    marked = [name.removesuffix("layout.json") for name in files if name.endswith("/layout.json")]
    names = [*files, *folders]
    return tuple(
        top
        for top in marked
        if is_store({n.removeprefix(top).partition("/")[0] for n in names if n.startswith(top)})
    )


def _top(
    files: dict[str, Member], folders: set[str], split: str | None
) -> tuple[str, tuple[str, ...]]:
    """The folder that holds everything, with its slash: what was packed is it, and not what is in
    it; and notes.

    The only folder in that is a class where images lie in it, as it is one where nothing is packed.
    """
    top, notes = "", tuple[str, ...]()
    while True:
        inside = {
            name.removeprefix(top).partition("/")[0] for name in folders if name.startswith(top)
        }
        loose = any("/" not in name.removeprefix(top) for name in files)
        if loose or len(inside) != 1 or inside == {split}:
            return top, notes
        (only,) = inside
        here = [name.removeprefix(f"{top}{only}/") for name in files]
        if any("/" not in name and ending(name) in readable() for name in here):
            if top:
                return top, notes
            notes = (f"{only} is taken for the folder that was packed, and for no class",)
        top = f"{top}{only}/"


def _content(member: Member) -> BinaryIO:
    if member.size > LARGEST:
        raise ValueError(f"it unpacks to {member.size:,} bytes, expected at most {LARGEST:,}")
    with member.open() as file:
        return io.BytesIO(file.read(LARGEST + 1))


def _inside(name: str, path: Path) -> str:
    """The path of a member without what means nothing; raises ValueError where it leads out of the
    archive."""
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if name.startswith("/") or ".." in parts or (parts and parts[0].endswith(":")):
        raise ValueError(
            f"the archive {path} has the path {name}, which leads out of it: it is not read"
        )
    return "/".join(parts)


def _parents(name: str) -> set[str]:
    parts = name.split("/")
    return {"/".join(parts[:i]) for i in range(1, len(parts))}


def _zip(path: Path) -> Archive:
    archive = zipfile.ZipFile(path)
    files = dict[str, Member]()
    folders = set[str]()
    links = dict[str, str]()
    for info in archive.infolist():
        windows = "\\" in info.filename and info.create_system == 0
        name = _inside(info.filename.replace("\\", "/") if windows else info.filename, path)
        folders |= _parents(name)
        if info.is_dir():
            folders |= {name} - {""}
        elif stat.S_ISLNK(info.external_attr >> 16):
            links[name] = "which are not followed in an archive"
        else:
            files[name] = Member(info.file_size, partial(_opened, archive.open, info))
    return Archive(files, folders, links, True, archive.close)


def _tar(path: Path, scratch: Path | None) -> Archive:
    """Of a compressed file without `scratch` only what is in it, since to go back in it is to
    unpack it again."""
    with path.open("rb") as packed:
        start = packed.read(8)
    unpack = next((how for sign, how in PACKED.items() if start.startswith(sign)), None)
    if unpack is None:
        archive = tarfile.open(path, "r:")  # noqa: SIM115 - closed when all is read
    elif scratch is None:
        with unpack(path) as stream, tarfile.open(fileobj=stream, mode="r|") as listing:
            return _members(listing, path, quick=False)
    else:
        archive = tarfile.open(fileobj=_unpacked(path, unpack, scratch), mode="r:")  # noqa: SIM115
    members = _members(archive, path, quick=True)
    file = cast(BinaryIO, archive.fileobj)
    file.seek(
        archive.offset
    )  # where Python found no more: in the middle of a header it stops in silence
    if file.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
        raise tarfile.ReadError("it is cut off: its end is missing")
    return members


def _opened(opener: Callable[[Any], Any], info: Any) -> BinaryIO:
    return cast(BinaryIO, opener(info))


def _members(archive: tarfile.TarFile, path: Path, quick: bool) -> Archive:
    files = dict[str, Member]()
    folders = set[str]()
    links = dict[str, str]()
    for info in archive:
        name = _inside(info.name, path)
        folders |= _parents(name)
        if info.isdir():
            folders |= {name} - {""}
        elif info.issym() or info.islnk():
            links[name] = "which are not followed in an archive"
        elif info.isreg():
            files[name] = Member(info.size, partial(_opened, archive.extractfile, info))
    return Archive(files, folders, links, quick, archive.close)


def _unpacked(path: Path, unpack: Callable[[Path], Any], scratch: Path) -> BinaryIO:
    file = cast(BinaryIO, tempfile.TemporaryFile(dir=scratch))  # noqa: SIM115
    try:
        with unpack(path) as stream:
            while part := stream.read(COPIED):
                if shutil.disk_usage(scratch).free < 2 * len(part):
                    what = f"{path} takes more room than {scratch} has when it is unpacked: unpack it elsewhere"
                    raise OSError(errno.ENOSPC, what)
                file.write(part)
    except BaseException:
        file.close()
        raise
    file.seek(0)
    return file


def _zstandard(path: Path) -> Any:
    import pyarrow as pa

    return pa.input_stream(str(path), compression="zstd")
