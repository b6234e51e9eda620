"""Decodes image files and arrays of any kind to 8-bit RGB squares of one size, and counts what it did.

In this order: the first frame, upright as its EXIF says, the largest square in its middle, 8 bits a
channel, RGB, transparent pixels composed on a background, resized by Pillow's bicubic filter, which
does not alias. Composing comes before resizing: colours of transparent pixels mean nothing and must
not bleed."""

from __future__ import annotations

from collections import Counter
from typing import BinaryIO, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from kaccore.data import pillow_files
from kaccore.data.endings import counts_text
from kaccore.data.pillow_files import Bytes
from kaccore.data.undecoded import WrongRangeError

# the largest value of 16, of 12 and of 15 bits
SIXTEEN = 65535
TWELVE = 4095
SIGNED = 32767
SIGNED_RAW_MODES = ("I;16S", "I;16BS")
COLOURS = ("CMYK", "YCbCr", "LAB", "HSV")
DIM = 0.25  # of the 16-bit range: if no value is above, the images may have fewer bits
FAINT = 2  # levels of 255 that nobody can distinguish
SLACK = 1e-6  # by which floats may exceed [0, 1], as from rounding
NOTES = {  # what was done -> the note about it
    "enlarged": "warning: {n} enlarged: smaller than {size}x{size}",
    "unseen": "warning: {n} of one colour after composing on {background}: another `background` may show more",
    "cropped": "{n} cropped to the middle square",
    "composed": "{n} composed on {background}: transparent",
    "turned": "{n} rotated upright by the EXIF orientation",
    "16 bits": "{n} scaled from 16 bits to 8",
    "32 bits": "{n} scaled from 16 bits in 32-bit integers to 8",
    "floats": "{n} scaled from floats in [0, 1] to 8 bits",
    "frames": "{n} with several frames or pages: only the first is used",
    "gray": "{n} gray: converted to three equal channels",
}


class FileFacts(NamedTuple):
    """What only the file knows of its pixels: the `raw` mode, such as `RGB;16B`; whether a TIFF stores
    white as 0; `deep`: whether Pillow reduces 16 bits to 8."""

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
        resized = image.resize((self.size, self.size), Image.Resampling.BICUBIC)
        pixels = np.asarray(resized).transpose(2, 0, 1)
        self.done.update(done)  # only here: a damaged image does not count
        return pixels

    def notes(self) -> tuple[str, ...]:
        """A line for each thing that was done, with the number of images."""
        background = "#{:02x}{:02x}{:02x}".format(*self.background)
        background = {"#ffffff": "white", "#000000": "black"}.get(background, background)
        lines = []
        for what, text in NOTES.items():
            if self.done[what]:
                count = images_text(self.done[what])
                lines.append(text.format(n=count, size=self.size, background=background))
        colours = {mode: self.done[mode] for mode in COLOURS if self.done[mode]}
        if colours:
            count = images_text(sum(colours.values()))
            lines.append(f"{count} converted to RGB: {counts_text(colours)}")
        if self.done["16 bits"] and self.brightest < DIM:
            what = f"the brightest 16-bit value is {self.brightest:.1%} of the range"
            lines.insert(
                0, f"warning: {what}: scale images of fewer bits, such as 12, to 16 bits first"
            )
        return tuple(lines)

    def _square(self, item: BinaryIO | NDArray[np.generic], done: set[str]) -> Image.Image:
        """The middle square of an image in RGB, opaque, not resized yet."""
        if isinstance(item, np.ndarray):
            return self._opaque(*_bands(self._array(_middle(item, done), done)), done)
        with pillow_files.open_image(item) as image:
            pillow_files.check_file(image, item)
            facts = _facts(image)
            pillow_files.use_native_order(image)
            if pillow_files.has_more_frames(image):
                done.add("frames")
            pillow_files.add_alpha_of_key(image, item, facts.raw)
            upright, rotated = pillow_files.upright(image)
            if rotated:
                done.add("turned")
            side = min(upright.size)
            if max(upright.size) > side:
                done.add("cropped")
            left, top = (upright.width - side) // 2, (upright.height - side) // 2
            return self._rgb(upright.crop((left, top, left + side, top + side)), facts, done)

    def _rgb(self, image: Image.Image, facts: FileFacts, done: set[str]) -> Image.Image:
        keyed_alpha = pillow_files.alpha_of_key(image, facts.raw)
        if image.mode in ("I", "F") or image.mode.startswith("I;16"):
            values = self._array(np.asarray(image), done, facts.raw)
            # Pillow does not invert these modes
            if facts.white_is_zero and image.mode.startswith(("I;16", "F")):
                values = 255 - values
            return self._opaque(*_bands(values), done, keyed_alpha)
        if image.mode in COLOURS:
            done.add(image.mode)
        if facts.deep:
            self._note_deep(image, done)
        if image.mode in ("1", "L", "LA", "La"):
            done.add("gray")
        has_alpha = image.mode in ("LA", "La", "PA", "RGBA", "RGBa")
        if has_alpha or pillow_files.palette_is_transparent(image):
            # in these modes the colours are multiplied by alpha
            straight = {"La": "LA", "RGBa": "RGBA"}.get(image.mode)
            if straight:
                image = image.convert(straight)
            bands = np.asarray(image.convert("RGBA"))
            return self._opaque(bands[..., :3], bands[..., 3], done)
        colours = pillow_files.lab_to_rgb(image) if image.mode == "LAB" else image.convert("RGB")
        if keyed_alpha is None:
            return colours
        return self._opaque(np.asarray(colours), None, done, keyed_alpha)

    def _note_deep(self, image: Image.Image, done: set[str]) -> None:
        """Note the brightness of an image of which Pillow has read the upper 8 bits; alpha does not
        count."""
        extremes = image.getextrema()  # one pair for one band, else a pair a band
        one = not isinstance(extremes[0], tuple)
        bands = cast(tuple[tuple[float, float], ...], (extremes,) if one else extremes)
        if image.mode in ("LA", "La", "RGBA", "RGBa"):
            bands = bands[:-1]
        highest = max(high for _, high in bands)
        self.brightest = max(self.brightest, highest / 255)
        done.add("16 bits")

    def _opaque(
        self, colours: Bytes, alpha: Bytes | None, done: set[str], keyed: Bytes | None = None
    ) -> Image.Image:
        """Colours (H, W, 3), composed on the background where `alpha` (H, W), or else `keyed`, is
        below 255."""
        alpha = keyed if alpha is None else alpha
        if alpha is None or alpha.min() == 255:
            return Image.fromarray(np.ascontiguousarray(colours))
        done.add("composed")
        weight = alpha[..., None].astype(np.uint32)
        background = np.array(self.background, np.uint32)
        mixed = (colours * weight + background * (255 - weight) + 127) // 255
        if np.ptp(mixed, axis=(0, 1)).max() <= FAINT:
            done.add("unseen")
        return Image.fromarray(mixed.astype(np.uint8))

    def _array(self, values: NDArray[np.generic], done: set[str], raw: str = "") -> Bytes:
        """Numbers as 8 bits, by the range of their type. Raises WrongRangeError for numbers outside
        that range, ValueError for NaN and infinity."""
        if values.ndim == 2 or values.shape[-1] < 3:
            done.add("gray")
        if values.dtype == np.uint8:
            return cast(Bytes, values)
        if values.dtype == bool:
            return values.astype(np.uint8) * np.uint8(255)
        if values.dtype.kind == "f":
            return _from_floats(values, done)
        return self._from_integers(values, done, raw)

    def _from_integers(self, values: NDArray[np.generic], done: set[str], raw: str) -> Bytes:
        low, high, got = _range(values)
        kind, nbytes = values.dtype.kind, values.dtype.itemsize
        if kind not in "ui" or nbytes not in (2, 4):
            raise WrongRangeError(f"{got}, expected 8 or 16 bits without sign")
        top = SIXTEEN
        if (kind == "i" and nbytes == 2) or raw in SIGNED_RAW_MODES:
            top = SIGNED
        elif raw == "I;12":
            top = TWELVE
        if not 0 <= low <= high <= top:
            raise WrongRangeError(f"{got}, expected [0, {top}]: save 8 or 16 bits without sign")
        wide = nbytes == 4 and "16" not in raw
        if wide and 0 < high <= 255:
            raise WrongRangeError(f"{got}, which may mean 8 bits or 16: save it as 8 bits or as 16")
        done.add("32 bits" if wide else "16 bits")
        self.brightest = max(self.brightest, high / top)
        return ((values.astype(np.int64) * 255 + top // 2) // top).astype(np.uint8)


def _facts(image: Image.Image) -> FileFacts:
    raw = pillow_files.raw_mode(image)
    if image.mode == "I" and image.format in ("PNG", "PPM"):
        # Pillow scales Netpbm's levels to 16 bits, and older ones read a PNG's 16 bits as 32
        raw = "I;16"
    deep = ";16" in raw or pillow_files.codec_drops_bits(image)
    return FileFacts(raw, pillow_files.white_is_zero(image), deep)


def _from_floats(values: NDArray[np.generic], done: set[str]) -> Bytes:
    low, high, got = _range(values)
    if not np.isfinite([low, high]).all():  # NaN and infinity are one image's damage
        raise ValueError(f"{got}, expected [0, 1]")
    if low < -SLACK or high > 1 + SLACK:
        raise WrongRangeError(f"{got}, expected [0, 1]: scale all images alike, or save 8 bits")
    done.add("floats")
    return (values.astype(np.float64).clip(0, 1) * 255).round().astype(np.uint8)


def _range(values: NDArray[np.generic]) -> tuple[float, float, str]:
    """The lowest and the highest value, and a text about both."""
    low, high = float(values.min()), float(values.max())
    return low, high, f"values of {values.dtype} from {low:g} to {high:g}"


def images_text(count: int) -> str:
    """`1 image`, `12 images`."""
    return f"{count:,} {'image' if count == 1 else 'images'}"


def image_size(item: BinaryIO | NDArray[np.generic]) -> tuple[int, int]:
    """Width and height of an image in pixels, from the head of its file; nothing is decoded."""
    if isinstance(item, np.ndarray):
        return item.shape[1], item.shape[0]
    with pillow_files.open_image(item) as image:
        return image.size


def _middle(array: NDArray[np.generic], done: set[str]) -> NDArray[np.generic]:
    height, width = array.shape[:2]
    side = min(height, width)
    if max(height, width) > side:
        done.add("cropped")
    top, left = (height - side) // 2, (width - side) // 2
    return array[top : top + side, left : left + side]


def _bands(array: Bytes) -> tuple[Bytes, Bytes | None]:
    """(H, W), or (H, W, C) of gray, gray and alpha, RGB, RGBA -> colours (H, W, 3) and alpha (H,
    W)."""
    if array.ndim == 2:
        array = array[..., None]
    alpha = array[..., -1] if array.shape[-1] in (2, 4) else None
    colours = array[..., :3] if array.shape[-1] >= 3 else array[..., :1].repeat(3, -1)
    return colours, alpha
