"""Samples as files: a grid of images or a scatter of points as PNG, or an array as npz."""

import io
import math
import os
import re
import shutil
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from kaccore.data import ImageData, PointData
from kaccore.data.undecoded import evenly_spaced
from kaccore.diagnostics.gap import Gap
from kaccore.files import write_bytes
from orchestrator.work.marks import marked

TILE = 48  # a small image is enlarged by whole pixels to about this size
CAPTION = 10  # pixels of a caption's letters
WIDEST = 96  # pixels to which an image is enlarged for its caption: room for fifteen letters or so
LARGEST = 256  # pixels of an image in a panel
LONGEST_NAME = 60  # characters of a class's name in a file's
SCATTERED = 1000  # points shown at most: those of the data in so many places hide what is missed


def save_samples(
    path: Path, samples: Tensor, data: ImageData, captions: Sequence[str] = (), mark: bool = False
) -> None:
    """`samples`, shaped and typed as `data.images`, as PNG; `captions`: what is written below each
    image, if anything; `mark`: this project knows it as its own."""
    if isinstance(data, PointData):
        file = scatter_png(samples.flatten(1), data.points)
    else:
        file = grid_png(samples, captions=captions)
    write_bytes(path, marked(file) if mark else file)


def names_of(labels: Tensor | None, data: ImageData) -> list[str]:
    """The names of the classes `labels` (N,), one an image; empty where there are none."""
    return [] if labels is None else [data.class_names[k] for k in labels.tolist()]


def file_names(count: int, seed: int, labels: Tensor | None, data: ImageData) -> list[str]:
    """Names for the files of so many images of a seed: 00003-cat-seed0.png, without a class where
    there are none."""
    safe = _safe(data.class_names)
    middle = (
        ["" for _ in range(count)] if labels is None else [f"-{safe[k]}" for k in labels.tolist()]
    )
    return [f"{k:05d}{name}-seed{seed}.png" for k, name in enumerate(middle)]


def _safe(names: Sequence[str]) -> list[str]:
    """Classes' names as every file system takes them, with the class's number where two would be
    alike."""
    safe = [re.sub(r"[^\w.-]+", "_", name)[:LONGEST_NAME].strip("_.") for name in names]
    lower = [name.lower() for name in safe]  # some file systems do not tell cases apart
    return [
        each if each and lower.count(each.lower()) == 1 else f"{k}_{each}"
        for k, each in enumerate(safe)
    ]


def save_each(folder: Path, images: Tensor, names: Sequence[str]) -> None:
    """uint8 (N, C, H, W) as a PNG each under these `names` in `folder`, which is new or empty; all
    of them or none."""
    folder = folder.absolute()
    aside = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
    aside.mkdir()
    try:
        for name, image in zip(names, images, strict=True):
            write_bytes(aside / name, png(image))
        aside.replace(folder)
    except BaseException:
        shutil.rmtree(aside, ignore_errors=True)
        raise


def png(image: Tensor) -> bytes:
    """uint8 (C, H, W) as a PNG file, pixel for pixel."""
    from torchvision.io import encode_png

    return encode_png(image.contiguous()).numpy().tobytes()


def scatter_png(points: Tensor, real: Tensor) -> bytes:
    """Points (N, 2) over as many of the `real` ones (M, 2), in gray, as a PNG file."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(4, 4), dpi=120)
    for (x, y), colour in ((real[:SCATTERED].T, "#BBBBBB"), (points[:SCATTERED].T, "#0072B2")):
        axes.scatter(x, y, s=3, color=colour, linewidths=0)
    axes.set_xlim(-1.1, 1.1)
    axes.set_ylim(-1.1, 1.1)
    axes.set_aspect("equal")
    return _drawn(figure)


def save_grid(path: Path, images: Tensor, columns: int = 8, captions: Sequence[str] = ()) -> None:
    """uint8 (N, C, H, W) as a PNG grid, row by row, small images enlarged by whole pixels;
    `captions`: what is written below each image, if anything, shortened to its width."""
    write_bytes(path, grid_png(images, columns, captions))


def grid_png(images: Tensor, columns: int = 8, captions: Sequence[str] = ()) -> bytes:
    """The PNG file of `save_grid`, as bytes."""
    from PIL import Image
    from torchvision.utils import make_grid

    width = images.shape[-1]
    room = max((math.ceil(_font().getlength(text)) + 4 for text in captions), default=0)
    scale = max(1, TILE // width, math.ceil(min(room, WIDEST) / width))
    big = images.repeat_interleave(scale, -1).repeat_interleave(scale, -2)
    if captions:
        lines = {
            text: _caption(text, big.shape[-1]).expand(big.shape[1], -1, -1)
            for text in dict.fromkeys(captions)
        }
        big = torch.cat([big, torch.stack([lines[text] for text in captions])], dim=-2)
    grid = make_grid(big, nrow=columns, padding=2, pad_value=128)
    buffer = io.BytesIO()
    Image.fromarray(grid.permute(1, 2, 0).numpy()).save(buffer, "PNG")
    return buffer.getvalue()


def panel(data: ImageData, count: int = 64) -> bytes:
    """`count` images of a data set as a network sees them, spread over its classes, each with its
    class's name below, as a PNG file; large ones made smaller; points as a scatter."""
    chosen = spread_over_classes(data, count)
    if isinstance(data, PointData):
        return scatter_png(data.points[chosen], data.points)
    images = data.images[chosen]
    if data.size > LARGEST:
        images = torch.nn.functional.interpolate(images, LARGEST, mode="bicubic", antialias=True)
    return grid_png(
        images, captions=names_of(None if data.labels is None else data.labels[chosen], data)
    )


def spread_over_classes(data: ImageData, count: int) -> Tensor:
    """Indices of at most `count` images, in the order of their classes: as many of each as there
    are, evenly apart."""
    if data.labels is None:
        return torch.tensor(evenly_spaced(len(data), count))
    members = [(data.labels == label).nonzero().flatten() for label in range(data.classes)]
    filled = [each for each in members if len(each)]
    filled = [filled[k] for k in evenly_spaced(len(filled), count)]
    shares = [0] * len(filled)
    while sum(shares) < min(count, sum(map(len, filled))):
        for k, each in enumerate(filled):
            if shares[k] < len(each) and sum(shares) < count:
                shares[k] += 1
    return torch.cat(
        [each[evenly_spaced(len(each), share)] for each, share in zip(filled, shares, strict=True)]
    )


def _caption(text: str, width: int) -> Tensor:
    """`text` in black on white, as far as it fits: uint8 (1, height, width)."""
    from PIL import Image, ImageDraw

    font = _font()
    line = Image.new("L", (width, CAPTION + 4), 255)
    pen, shown = ImageDraw.Draw(line), text
    while pen.textlength(shown, font) > width - 2 and len(shown) > 1:
        shown = f"{shown.removesuffix('…')[:-1]}…"
    pen.text((width / 2, CAPTION / 2 + 2), shown, 0, font, anchor="mm")
    return torch.from_numpy(np.array(line))[None]


@cache
def _font() -> Any:
    """Matplotlib's own font, which has the letters of many languages."""
    from matplotlib import get_data_path
    from PIL import ImageFont

    return ImageFont.truetype(Path(get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf", CAPTION)


def save_npz(
    path: Path, images: Tensor, labels: Tensor | None = None, twice: bool = False, **beside: Any
) -> None:
    """uint8 (N, C, H, W) as `images` (N, H, W, C) in a compressed npz, floats (N, 2, 1, 1) as
    `points` (N, 2); with it `labels` (N,), if there are any, and the arrays `beside`. `twice`: the
    images also as `arr_0`, where other tools expect them."""
    if images.is_floating_point():
        arrays: dict[str, Any] = {"points": images.flatten(1).numpy()}
    else:
        arrays = {"images": images.permute(0, 2, 3, 1).contiguous().numpy()}
        arrays |= {"arr_0": arrays["images"]} if twice else {}
    arrays |= ({} if labels is None else {"labels": labels.numpy()}) | beside
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    write_bytes(path, buffer.getvalue())


def save_gap(path: Path, gap: Gap) -> None:
    """Student against teacher along the path: root-mean-square distance and W2, each with its
    bound, as PNG."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(6.4, 4), dpi=150)
    for name, curve, colour in (("RMS", gap.rms, "#0072B2"), ("W2", gap.w2, "#D55E00")):
        if curve is not None:
            axes.plot(gap.times, curve.distance, color=colour, label=f"{name} distance")
            axes.plot(gap.times, curve.bound, color=colour, linestyle="--", label=f"{name} bound")
    axes.plot(
        gap.times[gap.ends],
        gap.rms.distance[gap.ends],
        "o",
        color="black",
        label="ends of the student's steps",
    )
    axes.invert_xaxis()
    axes.set_ylim(bottom=0)
    axes.set_xlabel("time t: noise (1) to data (0)")
    axes.set_ylabel("distance of student and teacher")
    axes.grid(True, alpha=0.3)
    axes.legend(frameon=False, fontsize=8)
    write_bytes(path, _drawn(figure))


def _drawn(figure: Any) -> bytes:
    import matplotlib.pyplot as plt

    figure.tight_layout()
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    plt.close(figure)
    return buffer.getvalue()
