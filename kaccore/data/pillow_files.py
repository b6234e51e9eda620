"""Image files as Pillow reads them, and what Pillow does not do by itself: file checks, 16-bit modes,
EXIF orientation, transparent colours."""

from __future__ import annotations

import struct
import zlib
from functools import cache
from typing import Any, BinaryIO, cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms, UnidentifiedImageError

from kaccore.data.endings import FORMATS
from kaccore.data.undecoded import WrongRangeError

Bytes = NDArray[np.uint8]
# tags of EXIF and of TIFF
ORIENTATION = 0x0112
PHOTOMETRIC = 262
BITS = 258
SAMPLE_FORMAT = 339
SIGNED_INTEGER = 2  # a value of TIFF's SampleFormat
# raw modes: big-endian -> native order of bytes
NATIVE = {"I;16BS": "I;16NS", "I;32BS": "I;32NS", "F;32BF": "F;32NF"}
UPRIGHT = {  # EXIF's orientation -> the operation that makes the image upright
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
# raw modes of PNGs with few gray levels, and the factor by which Pillow scales them to 0 .. 255
GRAY_SCALES = {"L;2": 85, "L;4": 17}
KEYED_MODES = ("1", "L", "RGB", "I", "I;16", "I;16B", "I;16L", "I;16N")
NOT_IMAGES = {
    b"version https://git-lfs": "a pointer of Git LFS, run `git lfs pull`",
    b"<!doctype html": "a web page",
    b"<html": "a web page",
}
HEIC = (b"heic", b"heix", b"hevc", b"heim", b"heis", b"mif1", b"msf1")


def open_image(file: BinaryIO) -> Image.Image:
    """The image in `file`, not decoded yet. Raises UnidentifiedImageError that says what the file is
    instead."""
    try:
        return Image.open(file, formats=_formats())
    except UnidentifiedImageError:
        file.seek(0)
        raise UnidentifiedImageError(_what_it_is(file.read(64).lstrip().lower())) from None


def _what_it_is(start: bytes) -> str:
    if not start:
        return "an empty file"
    if start[4:8] == b"ftyp" and start[8:12] in HEIC:
        return "a HEIC image, which Pillow cannot read"
    for signature, what in NOT_IMAGES.items():
        if start.startswith(signature):
            return what
    return "not an image of a known format"


@cache
def _formats() -> list[str]:
    Image.init()
    return [name for name in FORMATS if name in Image.OPEN]


def check_file(image: Image.Image, file: BinaryIO) -> None:
    """Raise for files that Pillow decodes wrongly without an error: ValueError for a PNG with wrong
    checksums, WrongRangeError for signed bytes."""
    if image.format == "PNG":
        position = file.tell()
        file.seek(8)
        _check_chunks(file)
        file.seek(position)  # where Pillow continues to read
    tags = getattr(image, "tag_v2", {})
    signed = SIGNED_INTEGER in _as_tuple(tags.get(SAMPLE_FORMAT))
    if signed and 8 in _as_tuple(tags.get(BITS)):
        raise WrongRangeError("values of int8, expected 8 or 16 bits without sign")


def _check_chunks(file: BinaryIO) -> None:
    """Raise ValueError for the first chunk of a PNG that does not match its checksum."""
    while len(head := file.read(8)) == 8:
        length, name = struct.unpack(">I4s", head)
        content, checksum = file.read(length), file.read(4)
        if checksum != zlib.crc32(content, zlib.crc32(name)).to_bytes(4, "big"):
            cut = len(content) < length or len(checksum) < 4
            what = "is cut off" if cut else "has a wrong checksum"
            raise ValueError(f"its chunk {name.decode('latin-1')} {what}: the file is damaged")
        if name == b"IEND":
            return


def _as_tuple(value: object) -> tuple[object, ...]:
    return value if isinstance(value, tuple) else (value,)


def raw_mode(image: Image.Image) -> str:
    """How the file stores its pixels, such as `RGB;16B`; empty if Pillow does not say."""
    tiles = getattr(image, "tile", [])
    arguments = tiles[0][3] if tiles else ""
    first = arguments[0] if isinstance(arguments, tuple) and arguments else arguments
    return first if isinstance(first, str) else ""


def _set_raw_mode(image: Any, raw: str) -> None:
    codec, extents, offset, arguments = image.tile[0]
    arguments = (raw, *arguments[1:]) if isinstance(arguments, tuple) else raw
    kind = type(image.tile[0])  # older Pillows have plain tuples
    tile = (codec, extents, offset, arguments)
    image.tile = [tile if kind is tuple else kind(*tile)]


def use_native_order(image: Image.Image) -> None:
    """Correct the raw mode of a TIFF: libtiff unpacks to this machine's order of bytes, which Pillow
    takes into account only for some raw modes."""
    tiles = getattr(image, "tile", [])
    if tiles and tiles[0][0] == "libtiff" and raw_mode(image) in NATIVE:
        _set_raw_mode(image, NATIVE[raw_mode(image)])


def codec_drops_bits(image: Image.Image) -> bool:
    """Whether a codec, and not a raw mode, reduces 16 bits to 8: those of Netpbm's colours and of
    SGI."""
    if image.mode == "I" or not getattr(image, "tile", []):
        return False
    name, _, _, arguments = cast(Any, image).tile[0]
    arguments = _as_tuple(arguments)
    if name.startswith("ppm"):
        return isinstance(arguments[-1], int) and arguments[-1] > 255
    return name == "SGI16" or (name == "sgi_rle" and arguments[-1] == 2)


def white_is_zero(image: Image.Image) -> bool:
    """Whether a TIFF stores white as 0."""
    return bool(getattr(image, "tag_v2", {}).get(PHOTOMETRIC, 1) == 0)


def has_more_frames(image: Image.Image) -> bool:
    """Whether an image has more frames than the first; those of an MPO are previews and do not
    count."""
    try:
        return image.format != "MPO" and bool(getattr(image, "is_animated", False))
    except Exception:  # the second frame is damaged, and not needed
        image.seek(0)
        return False


def upright(image: Image.Image) -> tuple[Image.Image, bool]:
    """The image, loaded and upright as its EXIF says, and whether it had to be rotated."""
    before = _orientation(image)
    image.load()
    rotated = before in UPRIGHT
    remaining = _orientation(image)  # Pillow rotates a TIFF itself when it loads it
    return (image.transpose(UPRIGHT[remaining]) if remaining in UPRIGHT else image), rotated


def _orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(ORIENTATION, 1))
    except Exception:  # broken EXIF is ignored; a broken image fails when it is decoded
        return 1


def add_alpha_of_key(image: Image.Image, file: BinaryIO, raw: str) -> None:
    """Give a PNG of 16-bit colours alpha where all 16 bits equal its transparent colour. Pillow reads
    the upper 8 bits; the lower ones are read by the other order of bytes."""
    key = image.info.get("transparency")
    if image.mode != "RGB" or raw != "RGB;16B" or key is None:
        return
    image.load()
    file.seek(0)
    with Image.open(file, formats=["PNG"]) as lower:
        _set_raw_mode(lower, "RGB;16L")
        values = np.asarray(image).astype(np.uint16) << 8 | np.asarray(lower)
    image.info.pop("transparency")
    image.putalpha(Image.fromarray(np.where((values == key).all(-1), 0, 255).astype(np.uint8)))


def alpha_of_key(image: Image.Image, raw: str) -> Bytes | None:
    """Alpha (H, W) of an image without a palette in which one colour means transparent, as PNG's
    tRNS; None for other images."""
    key = image.info.get("transparency")
    if key is None or image.mode not in KEYED_MODES:
        return None
    values = np.asarray(image)
    if image.mode == "1":
        same = values == bool(key)
    elif image.mode == "RGB":
        same = (values == np.array(key)).all(-1)
    else:
        same = values == key * GRAY_SCALES.get(raw, 1)
    return np.where(same, 0, 255).astype(np.uint8)


def palette_is_transparent(image: Image.Image) -> bool:
    """Whether an image has a palette with transparent colours."""
    if image.mode != "P":
        return False
    if "transparency" in image.info:
        return True
    return image.palette is not None and image.palette.mode.endswith("A")


def lab_to_rgb(image: Image.Image) -> Image.Image:
    """An image in LAB as sRGB."""
    lab, srgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
    transform = ImageCms.buildTransform(lab, srgb, "LAB", "RGB")
    return cast(Image.Image, ImageCms.applyTransform(image, transform))
