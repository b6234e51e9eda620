"""Small image files of every kind, each with the pixels that a network is to see of it, worked out
by hand.

All are 4x4, so that at size 4 nothing is resized. Expected pixels are one colour or rows of them,
on a red background."""

import io
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
from PIL import Image, features

RED = (255, 0, 0)
GREEN = (0, 255, 0)
BLUE = (0, 0, 255)
WHITE = (255, 255, 255)
BLACK = (0, 0, 0)
SIDE = 4
MIXED = (191, 64, 0)  # green at 64 of 255 over red: 255 - 64 and 64


@dataclass(frozen=True)
class Kind:
    """A file's ending, its content, the pixels to be seen (broadcast to (4, 4, 3)), and how near
    they have to be."""

    ending: str
    content: Callable[[], bytes]
    expected: object
    note: str | None = None
    within: int = 0


def saved(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def flat(mode: str, colour: object) -> Image.Image:
    return Image.new(mode, (SIDE, SIDE), colour)


def numbers(values: list[float], dtype: str) -> Image.Image:
    """Four columns of these values."""
    return Image.fromarray(np.array([values] * SIDE, dtype))


def gray(*levels: int) -> np.ndarray:
    """Four columns of these gray levels, (4, 4, 3)."""
    return np.array([levels] * SIDE)[..., None].repeat(3, -1)


def png(depth: int, colour: int, rows: bytes, **chunks: bytes) -> bytes:
    """A PNG of four equal `rows` as the standard has it, for what Pillow cannot write."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return (
            struct.pack(">I", len(content))
            + name
            + content
            + struct.pack(">I", zlib.crc32(name + content))
        )

    header = struct.pack(">IIBBBBB", SIDE, SIDE, depth, colour, 0, 0, 0)
    middle = b"".join(chunk(name.encode(), content) for name, content in chunks.items())
    pixels = zlib.compress((b"\0" + rows) * SIDE)
    parts = [chunk(b"IHDR", header), middle, chunk(b"IDAT", pixels), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def tiff(pixels: bytes, bits: list[int], photometric: int, order: str = "<", **more: int) -> bytes:
    """A TIFF of one strip as the standard has it; `more`: sample_format, extra, compression."""
    compression = more.get("compression", 1)
    tags = [(256, 3, [SIDE]), (257, 3, [SIDE]), (258, 3, bits), (259, 3, [compression]), (262, 3, [photometric]),
            (273, 4, [0]), (277, 3, [len(bits)]), (278, 3, [SIDE]), (279, 4, [len(pixels)])]  # fmt: skip
    tags += [(338, 3, [more["extra"]])] if "extra" in more else []
    tags += [(339, 3, [more["sample_format"]] * len(bits))] if "sample_format" in more else []
    directory, beyond = b"", b""
    start = 8 + 2 + 12 * len(tags) + 4
    strip = start + sum(
        2 * len(v) + len(v) % 2 * 2 for _, kind, v in tags if kind == 3 and len(v) > 2
    )
    for tag, kind, values in tags:
        values = [strip] if tag == 273 else values
        content = struct.pack(f"{order}{len(values)}{'H' if kind == 3 else 'I'}", *values)
        if len(content) > 4:
            at, content = start + len(beyond), content + b"\0" * (len(content) % 4)
            beyond += content
            content = struct.pack(f"{order}I", at)
        directory += struct.pack(f"{order}HHI", tag, kind, len(values)) + content.ljust(4, b"\0")
    head = (b"II" if order == "<" else b"MM") + struct.pack(f"{order}HI", 42, 8)
    return (
        head
        + struct.pack(f"{order}H", len(tags))
        + directory
        + struct.pack(f"{order}I", 0)
        + beyond
        + pixels
    )


def sgi(size: int, colour: list[int]) -> bytes:
    """An SGI image of one colour, `size` bytes a channel, as its standard has it: one plane after
    another."""
    planes = len(colour)
    dimensions = 3 if planes > 1 else 2
    head = struct.pack(">HBBHHHHII", 474, 0, size, dimensions, SIDE, SIDE, planes, 0, 255)
    return head.ljust(512, b"\0") + b"".join(
        level.to_bytes(size, "big") * SIDE**2 for level in colour
    )


def packed(pixels: bytes, bits: list[int], photometric: int, order: str, **more: int) -> bytes:
    """The same with its strip deflated."""
    return tiff(zlib.compress(pixels), bits, photometric, order, compression=8, **more)


def damaged_png(at: int) -> bytes:
    """A PNG of noise with one byte of its pixels changed, and so its checksums wrong."""
    content = bytearray(saved(Image.effect_noise((99, 99), 50), "PNG"))
    content[at] ^= 255
    return bytes(content)


def frames(kind: str) -> bytes:
    """An animation: green, then blue."""
    images = [flat("RGB", GREEN), flat("RGB", BLUE)]
    lossless = {"lossless": True} if kind == "WEBP" else {}
    return saved(images[0], kind, save_all=True, append_images=images[1:], duration=50, **lossless)


def palette(
    transparency: int | bytes | None = None, levels: bytes = bytes([0, 1, 0, 1])
) -> Image.Image:
    """Columns of green and blue by a palette."""
    image = Image.frombytes("P", (SIDE, SIDE), levels * SIDE)
    image.putpalette([*GREEN, *BLUE])
    if transparency is not None:
        image.info["transparency"] = transparency
    return image


def half_hidden(mode: str) -> Image.Image:
    """Green: two columns opaque, one at 64 of 255, one hidden under alpha 0, where the colour is
    blue."""
    rgba = np.array([[[*GREEN, 255], [*GREEN, 255], [*GREEN, 64], [*BLUE, 0]]] * SIDE, np.uint8)
    return Image.fromarray(rgba).convert(mode)


HALF = np.array([[GREEN, GREEN, MIXED, RED]] * SIDE)
LA = Image.merge(
    "LA",
    [
        Image.new("L", (SIDE, SIDE), 100),
        Image.fromarray(np.array([[255, 255, 64, 0]] * 4, np.uint8)),
    ],
)
HALF_GRAY = np.array(
    [[(100,) * 3, (100,) * 3, (216, 25, 25), RED]] * SIDE
)  # (255*191 + 100*64) / 255 and 100*64 / 255
COLUMNS = np.array([[GREEN, BLUE, GREEN, BLUE]] * SIDE)
FIRST_HIDDEN = np.array([[RED, BLUE, RED, BLUE]] * SIDE)
SIXTEEN, EIGHT = [0, 128, 32896, 65535], gray(0, 0, 128, 255)  # 32896 = 128 * 257
BIG = np.array(SIXTEEN * SIDE, ">u2").tobytes()
LITTLE = np.array(SIXTEEN * SIDE, "<u2").tobytes()
FLOATS = np.array([0, 0.25, 0.5, 1] * SIDE)
DEEP = "scaled from 16 bits to 8"
WIDE = "scaled from 16 bits in 32-bit integers to 8"

KINDS = {
    # more than 8 bits
    "gray 16 PNG": Kind("png", lambda: saved(numbers(SIXTEEN, "uint16"), "PNG"), EIGHT, DEEP),
    "gray 16 TIFF": Kind("tif", lambda: saved(numbers(SIXTEEN, "uint16"), "TIFF"), EIGHT, DEEP),
    "gray 16 packed TIFF": Kind(
        "tif", lambda: saved(numbers(SIXTEEN, "uint16"), "TIFF", compression="tiff_lzw"), EIGHT, DEEP
    ),
    "gray 16 big-endian TIFF": Kind("tiff", lambda: tiff(BIG, [16], 1, ">"), EIGHT, DEEP),
    "gray 16 inverted TIFF": Kind("tif", lambda: tiff(LITTLE, [16], 0), 255 - EIGHT, DEEP),
    "gray 16 signed TIFF": Kind(
        "tif",
        lambda: tiff(np.array([0, 64, 16448, 32767] * 4, "<i2").tobytes(), [16], 1, sample_format=2),
        gray(0, 0, 128, 255),  # 16448 * 255 / 32767 = 128.002
        DEEP,
    ),
    "gray 12 TIFF": Kind(  # 0, 2048, 4095 and 2730 of 4095
        "tif", lambda: tiff(bytes.fromhex("000800fffaaa") * 4, [12], 1), gray(0, 128, 255, 170), DEEP
    ),
    "gray 16 JPEG 2000": Kind("jp2", lambda: saved(numbers(SIXTEEN, "uint16"), "JPEG2000"), EIGHT, DEEP),
    "gray 16 PGM": Kind("pgm", lambda: b"P5 4 4 65535\n" + BIG, EIGHT, DEEP),
    "gray 10 PGM": Kind("pgm", lambda: b"P5 4 4 1023\n" + np.array([0, 1, 514, 1023] * 4, ">u2").tobytes(),
                        gray(0, 0, 128, 255), DEEP),
    "RGB 16 PNG": Kind(
        "png", lambda: png(16, 2, np.array([[0, 32896, 65535]] * 4, ">u2").tobytes()), (0, 128, 255), DEEP
    ),
    "RGBA 16 PNG": Kind(
        "png", lambda: png(16, 6, np.array([[0, 65535, 0, 64 * 257]] * 4, ">u2").tobytes()), MIXED, DEEP
    ),
    "gray and alpha 16 PNG": Kind(
        "png", lambda: png(16, 4, np.array([[65535, 0], [65535, 65535]] * 2, ">u2").tobytes()),
        np.array([[RED, WHITE, RED, WHITE]] * 4), DEEP,
    ),
    "RGB 16 TIFF": Kind("tif", lambda: tiff(np.array([0, 32896, 65535] * 16, "<u2").tobytes(), [16] * 3, 2),
                        (0, 128, 255), DEEP),
    "32-bit TIFF of 16 bits": Kind("tif", lambda: saved(numbers(SIXTEEN, "int32"), "TIFF"), EIGHT, WIDE),
    "32-bit TIFF without sign": Kind(
        "tif", lambda: tiff(np.array(SIXTEEN * 4, "<u4").tobytes(), [32], 1), EIGHT, WIDE
    ),
    "float TIFF": Kind(
        "tif", lambda: saved(numbers([0, 0.25, 0.5, 1], "float32"), "TIFF"), gray(0, 64, 128, 255), "floats in"
    ),
    "float PFM": Kind(
        "pfm", lambda: saved(numbers([0, 0.25, 0.5, 1], "float32"), "PPM"), gray(0, 64, 128, 255), "floats in"
    ),
    "float TIFF, 0 is white": Kind("tif", lambda: tiff(FLOATS.astype("<f4").tobytes(), [32], 0, sample_format=3),
                                   gray(255, 191, 127, 0), "floats in"),
    "RGB 10 PPM": Kind("ppm", lambda: b"P6 4 4 1023\n" + np.array([0, 514, 1023] * 16, ">u2").tobytes(),
                       (0, 128, 255), DEEP),
    "RGB 16 PPM": Kind("ppm", lambda: b"P6 4 4 65535\n" + np.array([0, 32896, 65535] * 16, ">u2").tobytes(),
                       (0, 128, 255), DEEP),
    "RGB 16 SGI": Kind("sgi", lambda: sgi(2, [0, 32896, 65535]), (0, 128, 255), DEEP),
    "gray 16 SGI": Kind("sgi", lambda: sgi(2, [32896]), (128, 128, 128), DEEP),
    # fewer than 8 bits, and other colours
    "black and white PNG": Kind("png", lambda: saved(flat("1", 1), "PNG"), WHITE, "gray"),
    "black and white TIFF": Kind("tif", lambda: saved(flat("1", 0), "TIFF", compression="group4"), BLACK, "gray"),
    "2 bits PNG": Kind("png", lambda: png(2, 0, bytes([0b00011011])), gray(0, 85, 170, 255), "gray"),
    "4 bits PNG": Kind("png", lambda: png(4, 0, bytes([0x05, 0xAF])), gray(0, 85, 170, 255), "gray"),
    "gray JPEG": Kind("jpg", lambda: saved(flat("L", 100), "JPEG"), (100,) * 3, "gray", 1),
    "CMYK TIFF": Kind("tif", lambda: saved(flat("CMYK", (255, 0, 255, 0)), "TIFF"), GREEN, "converted to RGB: CMYK"),
    "CMYK JPEG": Kind("jpg", lambda: saved(flat("CMYK", (0, 255, 255, 0)), "JPEG"), RED, "converted to RGB: CMYK", 3),
    "YCbCr TIFF": Kind("tif", lambda: saved(flat("YCbCr", (76, 85, 255)), "TIFF"), (254, 0, 0), "YCbCr", 1),
    "LAB TIFF": Kind("tif", lambda: tiff(bytes([255, 0, 0]) * 16, [8] * 3, 8), WHITE, "LAB", 1),
    # L* = 53.2, a* = 80.1, b* = 67.2 is sRGB's red in daylight; of D50, which TIFF means, 54.3,
    # 80.8 and 69.9
    "LAB TIFF red": Kind("tif", lambda: tiff(bytes([138, 81, 70]) * 16, [8] * 3, 8), RED, "LAB", 6),
    "RGB PNG": Kind("png", lambda: saved(flat("RGB", (1, 2, 3)), "PNG"), (1, 2, 3)),
    "RGB BMP": Kind("bmp", lambda: saved(flat("RGB", (1, 2, 3)), "BMP"), (1, 2, 3)),
    "RGB TGA": Kind("tga", lambda: saved(flat("RGB", (1, 2, 3)), "TGA"), (1, 2, 3)),
    "RGB QOI": Kind("qoi", lambda: saved(flat("RGB", (1, 2, 3)), "QOI"), (1, 2, 3)),
    "RGBX TIFF": Kind(
        "tif", lambda: saved(Image.merge("RGBX", [flat("L", v) for v in (1, 2, 3, 0)]), "TIFF"), (1, 2, 3)
    ),
    "JPEG 2000": Kind("jp2", lambda: saved(flat("RGB", (1, 2, 3)), "JPEG2000"), (1, 2, 3)),
    "JPEG 2000 codestream": Kind("j2k", lambda: saved(flat("RGB", (1, 2, 3)), "JPEG2000", no_jp2=True), (1, 2, 3)),
    "palette PNG": Kind("png", lambda: saved(palette(), "PNG"), COLUMNS),
    "palette BMP": Kind("bmp", lambda: saved(palette(), "BMP"), COLUMNS),
    "palette TIFF": Kind("tif", lambda: saved(palette(), "TIFF"), COLUMNS),
    # transparent
    "RGBA PNG": Kind("png", lambda: saved(half_hidden("RGBA"), "PNG"), HALF, "composed on #ff0000"),
    "RGBA TIFF": Kind("tif", lambda: saved(half_hidden("RGBA"), "TIFF"), HALF, "composed"),
    "RGBA TGA": Kind("tga", lambda: saved(half_hidden("RGBA"), "TGA"), HALF, "composed"),
    "RGBA QOI": Kind("qoi", lambda: saved(half_hidden("RGBA"), "QOI"), HALF, "composed"),
    "RGBA ICO": Kind("ico", lambda: saved(half_hidden("RGBA"), "ICO", sizes=[(4, 4)]), HALF, "composed"),
    "RGBA JPEG 2000": Kind("jp2", lambda: saved(half_hidden("RGBA"), "JPEG2000"), HALF, "composed"),
    "RGBA WebP": Kind("webp", lambda: saved(half_hidden("RGBA"), "WEBP", lossless=True, exact=True), HALF, "composed"),
    "premultiplied TIFF": Kind(  # green at 64 of 255 is kept as (0, 64, 0)
        "tif", lambda: tiff(bytes([0, 255, 0, 255] * 2 + [0, 64, 0, 64, 0, 0, 0, 0]) * 4, [8] * 4, 2, extra=1),
        HALF, "composed",
    ),
    "gray and alpha PNG": Kind("png", lambda: saved(LA, "PNG"), HALF_GRAY, "composed"),
    "gray and alpha TIFF": Kind("tif", lambda: saved(LA, "TIFF"), HALF_GRAY, "composed"),
    "palette and alpha TIFF": Kind("tif", lambda: saved(_palette_and_alpha(), "TIFF"), FIRST_HIDDEN, "composed"),
    "one colour of a palette PNG": Kind("png", lambda: saved(palette(0), "PNG"), FIRST_HIDDEN, "composed"),
    "palette of many alphas PNG": Kind("png", lambda: saved(palette(b"\x40\xff"), "PNG"),
                                       np.array([[MIXED, BLUE, MIXED, BLUE]] * 4), "composed"),
    "one colour of a GIF": Kind("gif", lambda: saved(palette(0), "GIF", transparency=0), FIRST_HIDDEN, "composed"),
    "one gray level PNG": Kind("png", lambda: saved(numbers([0, 7, 100, 255], "uint8"), "PNG", transparency=7),
                               np.array([[BLACK, RED, (100,) * 3, WHITE]] * 4), "composed"),
    "one gray level of 1 bit PNG": Kind("png", lambda: png(1, 0, bytes([0b01010000]), tRNS=b"\0\1"),
                                        np.array([[BLACK, RED] * 2] * 4), "composed"),
    "one gray level of 2 bits PNG": Kind("png", lambda: png(2, 0, bytes([0b00011011]), tRNS=b"\0\2"),
                                         np.array([[BLACK, (85,) * 3, RED, WHITE]] * 4), "composed"),
    "one gray level of 16 bits PNG": Kind("png", lambda: png(16, 0, BIG[:8], tRNS=struct.pack(">H", 32896)),
                                          np.array([[BLACK, BLACK, RED, WHITE]] * 4), "composed"),
    "one colour PNG": Kind("png", lambda: png(8, 2, bytes([*GREEN, *BLUE] * 2), tRNS=struct.pack(">HHH", 0, 255, 0)),
                           FIRST_HIDDEN, "composed"),
    "one colour of 16 bits PNG": Kind(
        "png", lambda: png(16, 2, np.array([0, 65535, 0, 0, 0, 65535] * 2, ">u2").tobytes(),
                           tRNS=struct.pack(">HHH", 0, 65535, 0)), FIRST_HIDDEN, "composed",
    ),
    "one colour of 16 bits PNG, and its neighbour": Kind(  # 1000 and 1001 have the same upper bytes
        "png", lambda: png(16, 2, np.array([1000, 1000, 1000, 1000, 1000, 1001] * 2, ">u2").tobytes(),
                           tRNS=struct.pack(">HHH", 1000, 1000, 1000)),
        np.array([[RED, (3, 3, 3)] * 2] * 4), "composed",
    ),
    "opaque RGBA": Kind("png", lambda: saved(flat("RGBA", (1, 2, 3, 255)), "PNG"), (1, 2, 3)),
    # several frames
    "GIF": Kind("gif", lambda: frames("GIF"), GREEN, "only the first is used"),
    "animated PNG": Kind("png", lambda: frames("PNG"), GREEN, "only the first is used"),
    "animated WebP": Kind("webp", lambda: frames("WEBP"), GREEN, "only the first is used"),
    "TIFF of two pages": Kind("tiff", lambda: frames("TIFF"), GREEN, "only the first is used"),
}  # fmt: skip

# whatever the order of bytes and the compression
NUMBERS = {
    "float": (FLOATS, "f4", 32, 3, gray(0, 64, 128, 255)),
    "16 bits": (np.array(SIXTEEN * 4), "u2", 16, 1, EIGHT),
    "16 bits with sign": (np.array([0, 64, 16448, 32767] * 4), "i2", 16, 2, gray(0, 0, 128, 255)),
    "32 bits with sign": (np.array(SIXTEEN * 4), "i4", 32, 2, EIGHT),
}
for name, (values, dtype, bits, sample_format, seen) in NUMBERS.items():
    for order in "<>":
        for how in (tiff, packed):
            pixels = values.astype(order + dtype).tobytes()
            content = partial(how, pixels, [bits], 1, order, sample_format=sample_format)
            KINDS[f"{name} {how.__name__} {order}"] = Kind("tif", content, seen, "gray")
for order in "<>":
    content = partial(
        packed, np.array([0, 32896, 65535] * 16, f"{order}u2").tobytes(), [16] * 3, 2, order
    )
    KINDS[f"RGB 16 packed {order}"] = Kind("tif", content, (0, 128, 255), DEEP)
if features.check("avif"):
    KINDS["AVIF"] = Kind(
        "avif", lambda: saved(flat("RGB", GREEN), "AVIF", quality=100), GREEN, None, 3
    )
    KINDS["RGBA AVIF"] = Kind(
        "avif", lambda: saved(flat("RGBA", (0, 255, 0, 0)), "AVIF"), RED, "composed", 1
    )
    KINDS["animated AVIF"] = Kind(
        "avif", lambda: frames("AVIF"), GREEN, "only the first is used", 8
    )


def _palette_and_alpha() -> Image.Image:
    image = palette().convert("PA")
    image.putalpha(Image.fromarray(np.array([[0, 255, 0, 255]] * SIDE, np.uint8)))
    return image


REFUSED = {  # what is wrong, and the words that say so
    "floats of 0 to 255": ("tif", lambda: saved(numbers([0, 1, 2, 255], "float32"), "TIFF"),
                           r"float32 from 0 to 255, expected \[0, 1\]"),
    "negative floats": ("tif", lambda: saved(numbers([-1, 0, 0, 1], "float32"), "TIFF"), "from -1 to 1, expected"),
    "not a number": ("tif", lambda: saved(numbers([0, np.nan, 0, 1], "float32"), "TIFF"), "from nan to nan"),
    "32 bits of 8": ("tif", lambda: saved(numbers([0, 1, 2, 200], "int32"), "TIFF"), "may mean 8 bits or 16"),
    "32 bits": ("tif", lambda: saved(numbers([0, 1, 2, 2**30], "int32"), "TIFF"), "from 0 to 1.07374e"),
    "negative 16 bits": ("tif", lambda: tiff(np.array([-5, 0, 0, 9] * 4, "<i2").tobytes(), [16], 1, sample_format=2),
                         r"from -5 to 9, expected \[0, 32767\]"),
    "doubles": ("tif", lambda: tiff(np.zeros(16, "<f8").tobytes(), [64], 1, sample_format=3), "not an image"),
    "8 bits with sign": ("tif", lambda: tiff(bytes(16), [8], 1, sample_format=2), "int8, expected 8 or 16 bits"),
    "a PNG with a changed byte": ("png", lambda: damaged_png(3000), "IDAT has a wrong checksum: the file is damaged"),
    "a PNG with a changed checksum": ("png", lambda: damaged_png(-15), "IDAT has a wrong checksum"),
    "an empty file": ("png", lambda: b"", "an empty file"),
    "a web page": ("jpg", lambda: b"<!DOCTYPE html><html></html>", "a web page"),
    "a pointer": ("jpg", lambda: b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "Git LFS"),
    "HEIC by another name": ("jpg", lambda: b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "HEIC"),
    "PostScript by another name": ("png", lambda: b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 4 4\n", "not an image"),
    "a cut PNG": ("png", lambda: saved(Image.effect_noise((99, 99), 50), "PNG")[:2000], "IDAT is cut off"),
    "a cut JPEG": ("jpg", lambda: saved(Image.effect_noise((99, 99), 50), "JPEG")[:2000], "truncated"),
}  # fmt: skip
