"""Which files of a folder are images, which are other files, and which are ignored: by their names
alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from functools import cache

# Pillow's name -> endings. Formats that need another program, or are stubs in Pillow, are left out
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
# formats that Pillow may have been built without -> its name of the feature
OPTIONAL = {"AVIF": "avif", "WEBP": "webp", "JPEG2000": "jpg_2000"}
COMMON = ".jpg, .png, .webp, .gif, .tif, .bmp or another of Pillow's"
PICTURES = {  # images to users, though Pillow does not read them: left out with a warning
    ".3fr", ".ai", ".arw", ".avi", ".bpg", ".cr2", ".cr3", ".cur", ".dcm", ".djvu", ".dng", ".emf", ".eps", ".exr",
    ".fit", ".fits", ".hdr", ".heic", ".heics", ".heif", ".heifs", ".hif", ".jls", ".jxl", ".jxr", ".kra", ".m4v",
    ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".nef", ".nii", ".orf", ".pdf", ".pef", ".raf", ".raw", ".rw2", ".sr2",
    ".svg", ".svgz", ".wdp", ".webm", ".wmf", ".xcf",
}  # fmt: skip
SYSTEM = {  # files of file managers, disks and cameras; hidden names begin with a dot
    "__macosx", "__pycache__", "@eadir", "#recycle", "#snapshot", "@recycle", "@recently-snapshot", "lost+found",
    "$recycle.bin", "recycler", "system volume information", "found.000", "lost.dir", "thumbs.db", "ehthumbs.db",
    "ehthumbs_vista.db", "desktop.ini", "desktop.ini.lnk", "icon\r", "picasa.ini", "zbthumbnail.info",
}  # fmt: skip
SPLITS = ("train", "training", "val", "valid", "validation", "test", "testing")
NAMED = 20  # names in a message; the others are counted


def is_visible(name: str) -> bool:
    """Whether a file or folder of this name is read: neither hidden nor of the system."""
    return not name.startswith(".") and name.lower() not in SYSTEM


def is_result_store(names: Collection[str]) -> bool:
    """Whether a folder that contains these names is a result store of this project, and not a
    class."""
    return "layout.json" in names and ("stages" in names or "sweeps" in names)


def store_notes(stores: Iterable[str]) -> tuple[str, ...]:
    """A note about result stores, which are not read."""
    paths = sorted(stores)
    what = "1 folder" if len(paths) == 1 else f"{len(paths):,} folders"
    kind = "a store" if len(paths) == 1 else "stores"
    return (f"{what} left out: {list_text(paths)}, {kind} of this project",) if paths else ()


def ending_of(path: str) -> str:
    """`.png` of `a/b.PNG`; empty if there is none."""
    stem, dot, last = path.rpartition("/")[2].rpartition(".")
    return f".{last.lower()}" if dot and stem else ""


@cache
def readable() -> Mapping[str, str]:
    """Ending -> Pillow's name of the format, for all formats that this Pillow reads."""
    from PIL import features

    known = {*features.modules, *features.codecs}  # an older Pillow does not know AVIF
    formats: dict[str, str] = {}
    for name, endings in FORMATS.items():
        feature = OPTIONAL.get(name)
        if feature is None or (feature in known and features.check(feature)):
            formats |= dict.fromkeys(endings, name)
    return formats


def left_out_notes(endings: Mapping[str, int]) -> tuple[str, ...]:
    """Notes about files that were not read, by their `endings`: a warning about images, and a line
    about other files."""
    images = PICTURES.union(*FORMATS.values())
    left_out_images = {ending: n for ending, n in endings.items() if ending in images}
    others = {ending: n for ending, n in endings.items() if ending not in images}
    notes = []
    if left_out_images:
        notes.append(f"warning: {_left_out(left_out_images)}, which Pillow cannot read here")
    if others:
        notes.append(_left_out(others))
    return tuple(notes)


def _left_out(endings: Mapping[str, int]) -> str:
    count = sum(endings.values())
    return f"{count:,} {'file' if count == 1 else 'files'} left out: {counts_text(endings)}"


def counts_text(counts: Mapping[str, int]) -> str:
    """`.txt (4), .json (3)`, the most frequent first; a single name without its count."""
    named = [(name or "no ending", count) for name, count in Counter(counts).most_common()]
    if len(named) == 1:
        return named[0][0]
    return list_text([f"{name} ({count:,})" for name, count in named])


def list_text(names: list[str]) -> str:
    """The first 20 names, and the number of the others."""
    more = f" and {len(names) - NAMED:,} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more
