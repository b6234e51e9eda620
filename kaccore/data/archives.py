"""Folders of images packed as .zip or .tar, read in place: no member is extracted to a file of its
own name."""

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

from kaccore.data.class_names import printable_names
from kaccore.data.endings import ending_of, is_result_store, is_visible, readable
from kaccore.data.tree import arrange
from kaccore.data.undecoded import UndecodedImages, evenly_spaced

LARGEST = 2**30  # bytes of one image at most
CHUNK = 2**24  # bytes that are unpacked at a time
MEASURED = 5000  # images at most
# the first bytes of a compressed file -> how to open it
PACKED: dict[bytes, Callable[[Path], Any]] = {
    b"\x1f\x8b": gzip.open,
    b"BZh": bz2.open,
    b"\xfd7zXZ\0": lzma.open,
    b"\x28\xb5\x2f\xfd": lambda path: _zstandard(path),
}


# what the readers raise for a damaged archive
DAMAGED = (
    OSError,
    EOFError,
    zipfile.BadZipFile,
    tarfile.TarError,
    lzma.LZMAError,
    RuntimeError,
)
LINK = "links in an archive are not followed"


class Member(NamedTuple):
    """A file in an archive: its unpacked size in bytes, and how to open it."""

    size: int
    open: Callable[[], BinaryIO]


class Archive(NamedTuple):
    """Files and folders by their paths; links (path -> why not followed); `quick`: whether opening
    a file is quick."""

    files: dict[str, Member]
    folders: set[str]
    links: dict[str, str]
    quick: bool
    close: Callable[[], None]


def is_archive(path: Path) -> bool:
    """Whether `find` reads this file, by its first bytes."""
    if zipfile.is_zipfile(path) or tarfile.is_tarfile(path):
        return True
    with path.open("rb") as file:
        start = file.read(8)
    return any(start.startswith(signature) for signature in PACKED)


def find(path: Path, split: str | None, scratch: Path | None = None) -> UndecodedImages:
    """The images in an archive of a folder, in the order and with the classes of that folder.

    A folder that contains everything is the root and not a class, and so is a top folder that
    contains all images. A compressed .tar is unpacked to an anonymous temporary file in `scratch`;
    without `scratch` its images cannot be read, only counted. Raises ValueError for an archive that
    is damaged or whose paths lead outside it."""
    archive = _open_archive(path, scratch)
    files = {name: member for name, member in archive.files.items() if _is_visible(name)}
    folders = {name for name in archive.folders if _is_visible(name)}
    stores = _stores(files, folders)
    files = {name: member for name, member in files.items() if not name.startswith(stores)}
    folders = {name for name in folders if not f"{name}/".startswith(stores)}
    top, notes = _top(files, folders, split)
    inside = [name for name in folders if name.startswith(top) and name != top.rstrip("/")]
    tree = arrange(
        f"{path}{':' if top else ''}{top.rstrip('/')}",
        [name.removeprefix(top) for name in files],
        [name.removeprefix(top) for name in inside],
        archive.links,
        split,
        [store.removeprefix(top).rstrip("/") for store in stores],
        packed=True,
    )
    prefix = top if split is None else f"{top}{split}/"
    members = [files[prefix + name] for name in tree.paths]
    return UndecodedImages(
        len(members),
        lambda i: _content(members[i]),
        lambda i: f"{tree.paths[i]} in {tree.where}",
        None if tree.targets is None else np.array(tree.targets, np.int64),
        printable_names(tree.classes),
        tree.formats,
        tree.left_out,
        (*tree.notes, *notes),
        evenly_spaced(len(members), MEASURED) if archive.quick else (),
        archive.close,
    )


def _open_archive(path: Path, scratch: Path | None) -> Archive:
    try:
        return _zip(path) if zipfile.is_zipfile(path) else _tar(path, scratch)
    except DAMAGED as error:
        if isinstance(error, OSError) and error.errno is not None:  # the system's, not the file's
            raise
        what = f"{type(error).__name__}: {error}"
        raise ValueError(f"the archive {path} cannot be read ({what})") from error


def _stores(files: dict[str, Member], folders: set[str]) -> tuple[str, ...]:
    """The result stores of this project in the archive: their paths, with a slash at the end."""
    marked = [name.removesuffix("layout.json") for name in files if name.endswith("/layout.json")]
    names = [*files, *folders]
    stores = []
    for folder in marked:
        inside = [name.removeprefix(folder) for name in names if name.startswith(folder)]
        if is_result_store({name.partition("/")[0] for name in inside}):
            stores.append(folder)
    return tuple(stores)


def _is_visible(path: str) -> bool:
    return all(map(is_visible, path.split("/")))


def _top(
    files: dict[str, Member], folders: set[str], split: str | None
) -> tuple[str, tuple[str, ...]]:
    """The folder that contains everything, with a slash at the end, and notes.

    That folder was packed, and not its content. The only folder inside it is a class if it contains
    images, as in a folder that is not packed."""
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
        if any("/" not in name and ending_of(name) in readable() for name in here):
            if top:
                return top, notes
            notes = (f"{only} is read as the packed folder, not as a class",)
        top = f"{top}{only}/"


def _content(member: Member) -> BinaryIO:
    if member.size > LARGEST:
        raise ValueError(f"it unpacks to {member.size:,} bytes, expected at most {LARGEST:,}")
    with member.open() as file:
        return io.BytesIO(file.read(LARGEST + 1))


def _member_path(name: str, path: Path) -> str:
    """The path of a member without empty parts and dots; raises ValueError if it leads outside the
    archive."""
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if name.startswith("/") or ".." in parts or (parts and parts[0].endswith(":")):
        raise ValueError(
            f"the archive {path} has the path {name}, which leads outside it: it is not read"
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
        name = _member_path(info.filename.replace("\\", "/") if windows else info.filename, path)
        folders |= _parents(name)
        if info.is_dir():
            folders |= {name} - {""}
        elif stat.S_ISLNK(info.external_attr >> 16):
            links[name] = LINK
        else:
            files[name] = Member(info.file_size, partial(_open_member, archive.open, info))
    return Archive(files, folders, links, True, archive.close)


def _tar(path: Path, scratch: Path | None) -> Archive:
    """A .tar file. A compressed one without `scratch` is only listed: reading its members out of
    order would unpack it again and again."""
    with path.open("rb") as packed:
        start = packed.read(8)
    unpack = next((opener for first, opener in PACKED.items() if start.startswith(first)), None)
    if unpack is None:
        archive = tarfile.open(path, "r:")  # noqa: SIM115 - closed by `Archive.close`
    elif scratch is None:
        with unpack(path) as stream, tarfile.open(fileobj=stream, mode="r|") as listing:
            return _members(listing, path, quick=False)
    else:
        archive = tarfile.open(fileobj=_unpacked(path, unpack, scratch), mode="r:")  # noqa: SIM115
    members = _members(archive, path, quick=True)
    file = cast(BinaryIO, archive.fileobj)
    file.seek(archive.offset)  # where Python stopped, silently also in the middle of a header
    if file.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
        raise tarfile.ReadError("it is cut off: its end is missing")
    return members


def _open_member(opener: Callable[[Any], Any], info: Any) -> BinaryIO:
    return cast(BinaryIO, opener(info))


def _members(archive: tarfile.TarFile, path: Path, quick: bool) -> Archive:
    files = dict[str, Member]()
    folders = set[str]()
    links = dict[str, str]()
    for info in archive:
        name = _member_path(info.name, path)
        folders |= _parents(name)
        if info.isdir():
            folders |= {name} - {""}
        elif info.issym() or info.islnk():
            links[name] = LINK
        elif info.isreg():
            files[name] = Member(info.size, partial(_open_member, archive.extractfile, info))
    return Archive(files, folders, links, quick, archive.close)


def _unpacked(path: Path, unpack: Callable[[Path], Any], scratch: Path) -> BinaryIO:
    file = cast(BinaryIO, tempfile.TemporaryFile(dir=scratch))  # noqa: SIM115
    try:
        with unpack(path) as stream:
            while part := stream.read(CHUNK):
                if shutil.disk_usage(scratch).free < 2 * len(part):
                    what = f"{path} does not fit into {scratch} when it is unpacked: unpack it elsewhere"
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
