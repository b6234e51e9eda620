"""Which files of a folder are images, which are other files, and which are not looked at: by their
names alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from functools import cache

# Pillow's name: endings. What needs another program, or is a stub in Pillow, is not among them
FORMATS = {
    "AVIF": (".avif", ".avifs"),
    "BMP": (".bmp",),
    "DDS": (".dds",),
    "DIB": (".dib",),
    "GIF": (".gif",),
    "ICNS": (".icns",),
    "ICO": (".ico",),
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif"),
    "JPEG2000": (".jp2", ".j2k", ".j2c", ".jpc", ".jpf", ".jpx"),
    "MPO": (".mpo",),
    "PCX": (".pcx",),
    "PNG": (".png", ".apng"),
    "PPM": (".ppm", ".pgm", ".pbm", ".pnm", ".pfm"),
    "PSD": (".psd",),
    "QOI": (".qoi",),
    "SGI": (".sgi",),
    "SUN": (".ras",),
    "TGA": (".tga",),
    "TIFF": (".tif", ".tiff"),
    "WEBP": (".webp",),
    "XBM": (".xbm",),
    "XPM": (".xpm",),
}
OPTIONAL = {
    "AVIF": "avif",
    "WEBP": "webp",
    "JPEG2000": "jpg_2000",
}  # what Pillow may have been built without
COMMON = ".jpg, .png, .webp, .gif, .tif, .bmp or another of Pillow's"
PICTURES = {  # of people who see images in them: left out with a warning
    ".3fr", ".ai", ".arw", ".avi", ".bpg", ".cr2", ".cr3", ".cur", ".dcm", ".djvu", ".dng", ".emf", ".eps", ".exr",
    ".fit", ".fits", ".hdr", ".heic", ".heics", ".heif", ".heifs", ".hif", ".jls", ".jxl", ".jxr", ".kra", ".m4v",
    ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".nef", ".nii", ".orf", ".pdf", ".pef", ".raf", ".raw", ".rw2", ".sr2",
    ".svg", ".svgz", ".wdp", ".webm", ".wmf", ".xcf",
}  # fmt: skip
SYSTEM = {  # what file managers, disks and cameras leave behind; hidden names begin with a dot
    "__macosx", "__pycache__", "@eadir", "#recycle", "#snapshot", "@recycle", "@recently-snapshot", "lost+found",
    "$recycle.bin", "recycler", "system volume information", "found.000", "lost.dir", "thumbs.db", "ehthumbs.db",
    "ehthumbs_vista.db", "desktop.ini", "desktop.ini.lnk", "icon\r", "picasa.ini", "zbthumbnail.info",
}  # fmt: skip
SPLITS = ("train", "training", "val", "valid", "validation", "test", "testing")
NAMED = 20  # of what is listed in a message; the rest is counted


def shown(name: str) -> bool:
    """Whether a file or folder of this name is looked at: neither hidden nor a system's own."""
    return not name.startswith(".") and name.lower() not in SYSTEM


def is_store(names: Collection[str]) -> bool:
    """Whether a folder in which these names lie is one that this project keeps its results in, and
    no class."""
    return "layout.json" in names and ("stages" in names or "sweeps" in names)


def of_stores(stores: Iterable[str]) -> tuple[str, ...]:
    """A line for people on such folders, which are not read."""
    paths = sorted(stores)
    what = "1 folder" if len(paths) == 1 else f"{len(paths):,} folders"
    kind = "a store" if len(paths) == 1 else "stores"
    return (f"{what} left out: {listed(paths)}, {kind} of this project",) if paths else ()


def ending(path: str) -> str:
    """`.png` of `a/b.PNG`; empty where there is none."""
    stem, dot, last = path.rpartition("/")[2].rpartition(".")
    return f".{last.lower()}" if dot and stem else ""


@cache
def readable() -> Mapping[str, str]:
    """Ending: Pillow's name of the format, of all that this Pillow reads."""
    from PIL import features

    known = {*features.modules, *features.codecs}  # an older Pillow knows nothing of AVIF
    missing = {
        name
        for name, feature in OPTIONAL.items()
        if feature not in known or not features.check(feature)
    }
    return {
        each: name for name, endings in FORMATS.items() if name not in missing for each in endings
    }


def left_out(endings: Mapping[str, int]) -> tuple[str, ...]:
    """A line for people on files that were not read, and a warning where they are images."""
    images = {each for endings in FORMATS.values() for each in endings} | PICTURES
    groups = [
        {e: n for e, n in endings.items() if (e in images) == wanted} for wanted in (True, False)
    ]
    kinds = ("warning: {}, which Pillow cannot read here", "{}")
    return tuple(
        kind.format(_left_out(group)) for kind, group in zip(kinds, groups, strict=True) if group
    )


def _left_out(endings: Mapping[str, int]) -> str:
    count = sum(endings.values())
    return f"{count:,} {'file' if count == 1 else 'files'} left out: {counted(endings)}"


def counted(counts: Mapping[str, int]) -> str:
    """`.txt (4), .json (3)`, the most frequent first; of a single one its name alone."""
    named = [(name or "no ending", count) for name, count in Counter(counts).most_common()]
    if len(named) == 1:
        return named[0][0]
    return listed([f"{name} ({count:,})" for name, count in named])


def listed(names: list[str]) -> str:
    """The first 20 names, and how many more there are."""
    more = f" and {len(names) - NAMED:,} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more
