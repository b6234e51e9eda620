"""Image files and arrays of any kind as 8-bit RGB squares of one size, with an account of what was
done to them.

In this order: the first frame, upright as its EXIF says, the largest square in its middle, 8 bits a
channel, RGB, composed on a background where it is transparent, resized by Pillow's bicubic filter,
which does not alias. What is transparent is composed before it is resized: colours under full
transparency mean nothing and must not bleed."""

from __future__ import annotations

import struct
import zlib
from collections import Counter
from functools import cache
from typing import Any, BinaryIO, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms, UnidentifiedImageError

from kaccore.data.endings import FORMATS, counted
from kaccore.data.found import WrongRangeError

Bytes = NDArray[np.uint8]
# tags of EXIF and of TIFF
ORIENTATION = 0x0112
PHOTOMETRIC = 262
BITS = 258
SAMPLE_FORMAT = 339
WITH_SIGN = 2  # as a TIFF's SampleFormat
NATIVE = {
    "I;16BS": "I;16NS",
    "I;32BS": "I;32NS",
    "F;32BF": "F;32NF",
}  # big-endian: as libtiff leaves it
UPRIGHT = {  # EXIF's orientation: what makes it upright
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
SIXTEEN = 65535
TWELVE = 4095
SIGNED = 32767
GRAY_SCALES = {"L;2": 85, "L;4": 17}  # PNG's few gray levels, spread by Pillow over 0 to 255
COLOURS = ("CMYK", "YCbCr", "LAB", "HSV")
DIM = 0.25  # of their range: where no 16-bit value reaches further, there may be fewer bits in it
NOT_IMAGES = {
    b"version https://git-lfs": "a pointer of Git LFS, run `git lfs pull`",
    b"<!doctype html": "a web page",
    b"<html": "a web page",
}
HEIC = (b"heic", b"heix", b"hevc", b"heim", b"heis", b"mif1", b"msf1")
FAINT = 2  # levels of 255 that nobody tells apart
SLACK = 1e-6  # by which floats may miss [0, 1], as rounding does
NOTES = {  # what was done: how it is said
    "enlarged": "warning: {n} enlarged: smaller than {size}x{size}",
    "unseen": "warning: {n} of one colour on {background}, transparent as they are: another `background` may show more",
    "cropped": "{n} cropped to the middle square",
    "composed": "{n} composed on {background}: transparent",
    "turned": "{n} turned upright by the EXIF orientation",
    "16 bits": "{n} scaled from 16 bits to 8",
    "32 bits": "{n} scaled from 16 bits in 32-bit integers to 8",
    "floats": "{n} scaled from floats in [0, 1] to 8 bits",
    "frames": "{n} animated or of several pages: the first is taken",
    "gray": "{n} gray: given three equal channels",
}


class Kept(NamedTuple):
    """What only the file knows of its pixels: `raw` how it has them, such as `RGB;16B`, and of a
    TIFF whether 0 is white, `deep` whether 16 bits are left to 8 by Pillow."""

    raw: str
    white_is_zero: bool
    deep: bool


class Decoder:
    """Brings images to `size` x `size` on a `background`, and counts what it did to them."""

    def __init__(self, size: int, background: tuple[int, int, int]) -> None:
        self.size, self.background = size, background
        self.done: Counter[str] = Counter()
        self.brightest = 0.0  # of all 16-bit images, as a share of their range

    def __call__(self, item: BinaryIO | NDArray[np.generic]) -> Bytes:
        """(3, size, size) uint8 of an open file, or of an array (H, W), or (H, W, C) of gray, with
        alpha, RGB or RGBA.

        Raises whatever Pillow raises for a damaged file, WrongRangeError for numbers of no known
        range."""
        done: set[str] = set()
        image = self._square(item, done)
        if image.width < self.size:
            done.add("enlarged")
        pixels = np.asarray(
            image.resize((self.size, self.size), Image.Resampling.BICUBIC)
        ).transpose(2, 0, 1)
        self.done.update(done)  # of a damaged image nothing counts
        return pixels

    def notes(self) -> tuple[str, ...]:
        """A line for people on each thing that was done."""
        background = "#{:02x}{:02x}{:02x}".format(*self.background)
        background = {"#ffffff": "white", "#000000": "black"}.get(background, background)
        lines = [
            text.format(n=images(self.done[what]), size=self.size, background=background)
            for what, text in NOTES.items()
            if self.done[what]
        ]
        if colours := {mode: self.done[mode] for mode in COLOURS if self.done[mode]}:
            lines.append(f"{images(sum(colours.values()))} converted to RGB: {counted(colours)}")
        if self.done["16 bits"] and self.brightest < DIM:
            what = f"the brightest value of 16 bits is {self.brightest:.1%} of their range"
            lines.insert(
                0, f"warning: {what}: images of fewer bits, as 12, have to be scaled to 16 before"
            )
        return tuple(lines)

    def _square(self, item: BinaryIO | NDArray[np.generic], done: set[str]) -> Image.Image:
        """The middle of an image in RGB, opaque, of its own size."""
        if isinstance(item, np.ndarray):
            return self._opaque(*_bands(self._array(_middle(item, done), done)), done)
        with _opened(item) as image:
            _check(image, item)
            # Pillow spreads Netpbm's levels over 16 bits, and older ones read a PNG's 16 bits as 32
            raw = (
                "I;16" if image.mode == "I" and image.format in ("PNG", "PPM") else _raw_mode(image)
            )
            deep = ";16" in raw or _deep_codec(image)
            kept = Kept(raw, bool(getattr(image, "tag_v2", {}).get(PHOTOMETRIC, 1) == 0), deep)
            _read_natively(image)
            _note_frames(image, done)
            _key_deep(image, item, raw)
            upright = _upright(image, done)
            side = min(upright.size)
            if max(upright.size) > side:
                done.add("cropped")
            left, top = (upright.width - side) // 2, (upright.height - side) // 2
            return self._rgb(upright.crop((left, top, left + side, top + side)), kept, done)

    def _rgb(self, image: Image.Image, kept: Kept, done: set[str]) -> Image.Image:
        alpha = _keyed(image, kept.raw)
        if image.mode in ("I", "F") or image.mode.startswith("I;16"):
            bits = self._array(np.asarray(image), done, kept.raw)
            inverted = kept.white_is_zero and image.mode.startswith(
                ("I;16", "F")
            )  # which Pillow leaves as it is
            return self._opaque(*_bands(255 - bits if inverted else bits), done, alpha)
        if image.mode in COLOURS:
            done.add(image.mode)
        if kept.deep:
            self._note_deep(image, done)
        if image.mode in ("1", "L", "LA", "La"):
            done.add("gray")
        if image.mode in ("LA", "La", "PA", "RGBA", "RGBa") or _palette_is_transparent(image):
            straight = {"La": "LA", "RGBa": "RGBA"}.get(
                image.mode
            )  # whose colours were multiplied with alpha
            bands = np.asarray((image.convert(straight) if straight else image).convert("RGBA"))
            return self._opaque(bands[..., :3], bands[..., 3], done)
        colours = _from_lab(image) if image.mode == "LAB" else image.convert("RGB")
        return colours if alpha is None else self._opaque(np.asarray(colours), None, done, alpha)

    def _note_deep(self, image: Image.Image, done: set[str]) -> None:
        """Note how bright an image is of which Pillow has taken the upper 8 bits; alpha says
        nothing of that."""
        bands = image.getextrema()
        alpha = image.mode in ("LA", "La", "RGBA", "RGBa")
        highest = [
            high
            for _, high in cast(tuple[tuple[float, float], ...], bands)[: -1 if alpha else None]
        ]
        self.brightest = max(self.brightest, max(highest) / 255)
        done.add("16 bits")

    def _opaque(
        self, colours: Bytes, alpha: Bytes | None, done: set[str], keyed: Bytes | None = None
    ) -> Image.Image:
        """Colours (H, W, 3) on the background where `alpha`, or else `keyed`, (H, W), is below
        255."""
        alpha = keyed if alpha is None else alpha
        if alpha is None or alpha.min() == 255:
            return Image.fromarray(np.ascontiguousarray(colours))
        done.add("composed")
        weight = alpha[..., None].astype(np.uint32)
        below = np.array(self.background, np.uint32)
        mixed = (colours * weight + below * (255 - weight) + 127) // 255
        if np.ptp(mixed, axis=(0, 1)).max() <= FAINT:
            done.add("unseen")
        return Image.fromarray(mixed.astype(np.uint8))

    def _array(self, values: NDArray[np.generic], done: set[str], raw: str = "") -> Bytes:
        """Numbers as 8 bits, by the range of their type; raises WrongRangeError where they lie
        outside, ValueError for NaN and infinite ones."""
        if values.ndim == 2 or values.shape[-1] < 3:
            done.add("gray")
        if values.dtype == np.uint8:
            return cast(Bytes, values)
        if values.dtype == bool:
            return values.astype(np.uint8) * np.uint8(255)
        low, high = (float(values.min()), float(values.max()))
        found = f"values of {values.dtype} from {low:g} to {high:g}"
        if values.dtype.kind == "f":
            if not np.isfinite([low, high]).all():  # NaN and infinity are one image's damage
                raise ValueError(f"{found}, expected [0, 1]")
            if low < -SLACK or high > 1 + SLACK:
                raise WrongRangeError(
                    f"{found}, expected [0, 1]: scale all images alike, or save 8 bits"
                )
            done.add("floats")
            return (values.astype(np.float64).clip(0, 1) * 255).round().astype(np.uint8)
        if values.dtype.kind not in "ui" or values.dtype.itemsize not in (2, 4):
            raise WrongRangeError(f"{found}, expected 8 or 16 bits without sign")
        signed = (values.dtype.kind == "i" and values.dtype.itemsize == 2) or raw in (
            "I;16S",
            "I;16BS",
        )
        top = SIGNED if signed else TWELVE if raw == "I;12" else SIXTEEN
        if not 0 <= low <= high <= top:
            raise WrongRangeError(f"{found}, expected [0, {top}]: save 8 or 16 bits without sign")
        wide = values.dtype.itemsize == 4 and "16" not in raw
        if wide and 0 < high <= 255:
            raise WrongRangeError(
                f"{found}, which may mean 8 bits or 16: save it as 8 bits or as 16"
            )
        done.add("32 bits" if wide else "16 bits")
        self.brightest = max(self.brightest, high / top)
        return ((values.astype(np.int64) * 255 + top // 2) // top).astype(np.uint8)


def images(count: int) -> str:
    """`1 image`, `12 images`."""
    return f"{count:,} {'image' if count == 1 else 'images'}"


def measured(item: BinaryIO | NDArray[np.generic]) -> tuple[int, int]:
    """Width and height of an image as its file says, in pixels; nothing is decoded."""
    if isinstance(item, np.ndarray):
        return item.shape[1], item.shape[0]
    with _opened(item) as image:
        return image.size


def _opened(file: BinaryIO) -> Image.Image:
    try:
        return Image.open(file, formats=_formats())
    except UnidentifiedImageError:
        file.seek(0)
        start = file.read(64).lstrip().lower()
        what = next(
            (said for sign, said in NOT_IMAGES.items() if start.startswith(sign)),
            "not an image that is known",
        )
        if start[4:8] == b"ftyp" and start[8:12] in HEIC:
            what = "a HEIC image, which Pillow cannot read"
        raise UnidentifiedImageError("an empty file" if not start else what) from None


def _check(image: Image.Image, file: BinaryIO) -> None:
    """Raises for what Pillow decodes in silence and wrongly: a PNG whose checksums do not fit,
    bytes with sign."""
    if image.format == "PNG":
        at = file.tell()
        file.seek(8)
        _check_chunks(file)
        file.seek(at)  # Pillow reads on from there
    tags = getattr(image, "tag_v2", {})
    if WITH_SIGN in _tuple(tags.get(SAMPLE_FORMAT)) and 8 in _tuple(tags.get(BITS)):
        raise WrongRangeError("values of int8, expected 8 or 16 bits without sign")


def _check_chunks(file: BinaryIO) -> None:
    """Raises ValueError for the first chunk of a PNG whose bytes are not those of its checksum."""
    while len(head := file.read(8)) == 8:
        length, name = struct.unpack(">I4s", head)
        content, checksum = file.read(length), file.read(4)
        if checksum != zlib.crc32(content, zlib.crc32(name)).to_bytes(4, "big"):
            cut = len(content) < length or len(checksum) < 4
            what = "is cut off" if cut else "has a wrong checksum"
            raise ValueError(f"its chunk {name.decode('latin-1')} {what}: the file is damaged")
        if name == b"IEND":
            return


def _tuple(value: object) -> tuple[object, ...]:
    return value if isinstance(value, tuple) else (value,)


def _deep_codec(image: Image.Image) -> bool:
    """Whether a codec, and no raw mode, brings 16 bits to 8: those of Netpbm's colours and of
    SGI."""
    if image.mode == "I" or not getattr(image, "tile", []):
        return False
    name, _, _, arguments = cast(Any, image).tile[0]
    arguments = _tuple(arguments)
    if name.startswith("ppm"):
        return isinstance(arguments[-1], int) and arguments[-1] > 255
    return name == "SGI16" or (name == "sgi_rle" and arguments[-1] == 2)


def _read_natively(image: Image.Image) -> None:
    """What libtiff unpacks has this machine's order of bytes, which Pillow minds of some raw modes
    alone."""
    tiles = getattr(image, "tile", [])
    if tiles and tiles[0][0] == "libtiff" and _raw_mode(image) in NATIVE:
        _set_raw_mode(image, NATIVE[_raw_mode(image)])


def _key_deep(image: Image.Image, file: BinaryIO, raw: str) -> None:
    """Give a PNG of 16-bit colours alpha where all 16 bits are those of its transparent colour:
    Pillow reads the upper 8 of them, and the lower ones by the other order of bytes."""
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


@cache
def _formats() -> list[str]:
    Image.init()
    return [name for name in FORMATS if name in Image.OPEN]


def _raw_mode(image: Image.Image) -> str:
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


def _note_frames(image: Image.Image, done: set[str]) -> None:
    """Note where an image has more frames than the first; an MPO's others are previews of the
    same."""
    try:
        several = image.format != "MPO" and getattr(image, "is_animated", False)
    except Exception:  # the second is damaged, and not asked for
        several = False
        image.seek(0)
    if several:
        done.add("frames")


def _upright(image: Image.Image, done: set[str]) -> Image.Image:
    before = _orientation(image)
    image.load()
    if before in UPRIGHT:
        done.add("turned")
    left = _orientation(image)  # Pillow turns a TIFF itself as it is read
    return image.transpose(UPRIGHT[left]) if left in UPRIGHT else image


def _orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(ORIENTATION, 1))
    except Exception:  # broken EXIF says nothing; that the image itself is broken its pixels tell
        return 1


def _middle(array: NDArray[np.generic], done: set[str]) -> NDArray[np.generic]:
    height, width = array.shape[:2]
    side = min(height, width)
    if max(height, width) > side:
        done.add("cropped")
    top, left = (height - side) // 2, (width - side) // 2
    return array[top : top + side, left : left + side]


def _bands(array: Bytes) -> tuple[Bytes, Bytes | None]:
    """(H, W), or (H, W, C) of gray, gray and alpha, RGB, RGBA: colours (H, W, 3) and alpha (H,
    W)."""
    if array.ndim == 2:
        array = array[..., None]
    alpha = array[..., -1] if array.shape[-1] in (2, 4) else None
    colours = array[..., :3] if array.shape[-1] >= 3 else array[..., :1].repeat(3, -1)
    return colours, alpha


def _keyed(image: Image.Image, raw: str) -> Bytes | None:
    """Alpha where one colour of an image without a palette stands for transparent, as PNG's tRNS
    has it."""
    key = image.info.get("transparency")
    if key is None or image.mode not in ("1", "L", "RGB", "I", "I;16", "I;16B", "I;16L", "I;16N"):
        return None
    values = np.asarray(image)
    if image.mode == "1":
        same = values == bool(key)
    elif image.mode == "RGB":
        same = (values == np.array(key)).all(-1)
    else:
        same = values == key * GRAY_SCALES.get(raw, 1)
    return np.where(same, 0, 255).astype(np.uint8)


def _palette_is_transparent(image: Image.Image) -> bool:
    if image.mode != "P":
        return False
    return "transparency" in image.info or (
        image.palette is not None and image.palette.mode.endswith("A")
    )


def _from_lab(image: Image.Image) -> Image.Image:
    lab, srgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
    return cast(
        Image.Image,
        ImageCms.applyTransform(image, ImageCms.buildTransform(lab, srgb, "LAB", "RGB")),
    )
