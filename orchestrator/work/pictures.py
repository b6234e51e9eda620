"""Writes samples to files: a grid of images or a scatter plot of points as PNG, or arrays as npz."""

import io
import math
import os
import re
import shutil
from collections import Counter
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
from orchestrator.host import figure as figures
from orchestrator.work.marks import marked

TILE = 48  # pixels: a small image is enlarged by a whole factor to about this size
CAPTION = 10  # font size of captions, in pixels
WIDEST = 96  # pixels to which an image is enlarged for its caption: room for about fifteen letters
LARGEST = 256  # maximum side of an image in a panel, in pixels
LONGEST_NAME = 60  # maximum characters of a class name in a file name
GAP = 2  # pixels between images of a grid
SCATTERED = 1000  # maximum number of plotted points: more points of the data hide missed modes


def save_samples(
    path: Path, samples: Tensor, data: ImageData, captions: Sequence[str] = (), mark: bool = False
) -> None:
    """Write `samples`, with the shape and type of `data.images`, as PNG. `captions`: the text below
    each image, if any. `mark`: adds the mark with which this project recognises its pictures."""
    file = samples_png(samples, data, captions)
    write_bytes(path, marked(file) if mark else file)


def samples_png(samples: Tensor, data: ImageData, captions: Sequence[str] = ()) -> bytes:
    """The PNG file of `save_samples`, as bytes: a grid, or for points a scatter plot."""
    if isinstance(data, PointData):
        return scatter_png(samples.flatten(1), data.points)
    return grid_png(samples, captions=captions)


def names_of(labels: Tensor | None, data: ImageData) -> list[str]:
    """The class names of `labels` (N,), one for each image; empty without labels."""
    return [] if labels is None else [data.class_names[k] for k in labels.tolist()]


def file_names(count: int, seed: int, labels: Tensor | None, data: ImageData) -> list[str]:
    """File names for `count` images of a seed, such as 00003-cat-seed0.png; without a class if there
    are no labels."""
    if labels is None:
        return [f"{k:05d}-seed{seed}.png" for k in range(count)]
    safe = _safe(data.class_names)
    classes = [safe[label] for label in labels.tolist()]
    return [f"{k:05d}-{name}-seed{seed}.png" for k, name in enumerate(classes)]


def _safe(names: Sequence[str]) -> list[str]:
    """Class names that are valid in all file systems, prefixed with the number of the class if they
    are empty or not unique."""
    safe = [re.sub(r"[^\w.-]+", "_", name)[:LONGEST_NAME].strip("_.") for name in names]
    counts = Counter(name.lower() for name in safe)  # some file systems ignore case
    unique = []
    for k, name in enumerate(safe):
        if not name or counts[name.lower()] > 1:
            name = f"{k}_{name}"
        unique.append(name)
    return unique


def save_each(folder: Path, images: Tensor, names: Sequence[str]) -> None:
    """Write uint8 (N, C, H, W) as one PNG each, with these `names`, to `folder`, which is new or
    empty. Writes all of them or none."""
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
    """uint8 (C, H, W) as a lossless PNG file."""
    from PIL import Image

    buffer = io.BytesIO()
    rows = image.permute(1, 2, 0).contiguous().numpy()
    Image.fromarray(rows[..., 0] if len(image) == 1 else rows).save(buffer, "PNG")
    return buffer.getvalue()


def scatter_png(points: Tensor, real: Tensor) -> bytes:
    """A scatter plot of points (N, 2) over the `real` points (M, 2), in gray, as a PNG file; at most
    SCATTERED of each."""
    figure, (axes,) = figures.panels(1, (4, 4), dpi=120)
    for (x, y), colour in ((real[:SCATTERED].T, "#BBBBBB"), (points[:SCATTERED].T, "#0072B2")):
        axes.scatter(x, y, s=3, color=colour, linewidths=0)
    axes.set_xlim(-1.1, 1.1)
    axes.set_ylim(-1.1, 1.1)
    axes.set_aspect("equal")
    return _drawn(figure)


def save_grid(path: Path, images: Tensor, columns: int = 8, captions: Sequence[str] = ()) -> None:
    """Write uint8 (N, C, H, W) as a PNG grid, row by row; small images are enlarged by a whole
    factor. `captions`: the text below each image, if any, shortened to the width of the image."""
    write_bytes(path, grid_png(images, columns, captions))


def grid_png(images: Tensor, columns: int = 8, captions: Sequence[str] = ()) -> bytes:
    """The PNG file of `save_grid`, as bytes."""
    width = images.shape[-1]
    room = max((math.ceil(_font().getlength(text)) + 4 for text in captions), default=0)
    scale = max(1, TILE // width, math.ceil(min(room, WIDEST) / width))
    big = images.repeat_interleave(scale, -1).repeat_interleave(scale, -2)
    if captions:
        lines: dict[str, Tensor] = {}
        for text in dict.fromkeys(captions):
            lines[text] = _caption(text, big.shape[-1]).expand(big.shape[1], -1, -1)
        big = torch.cat([big, torch.stack([lines[text] for text in captions])], dim=-2)
    return png(_tiled(big.expand(-1, 3, -1, -1) if big.shape[1] == 1 else big, columns))


def _tiled(images: Tensor, columns: int) -> Tensor:
    """Images (N, C, H, W) row by row as one image, in gray frames of GAP pixels; one alone has no
    frame. torchvision's `make_grid` does it too, but its import takes 1.3 s of every process."""
    if len(images) == 1:
        return images[0]
    columns = min(columns, len(images))
    rows = math.ceil(len(images) / columns)
    height, width = (side + GAP for side in images.shape[2:])
    grid = images.new_full((images.shape[1], rows * height + GAP, columns * width + GAP), 128)
    for k, image in enumerate(images):
        top, left = k // columns * height + GAP, k % columns * width + GAP
        grid[:, top : top + height - GAP, left : left + width - GAP] = image
    return grid


def panel(data: ImageData, count: int = 64) -> bytes:
    """`count` images of a data set as the network gets them, spread over its classes, with class
    names as captions, as a PNG file; large images are scaled down. Points become a scatter plot."""
    indices = spread_over_classes(data, count)
    if isinstance(data, PointData):
        return scatter_png(data.points[indices], data.points)
    images = data.images[indices]
    if data.size > LARGEST:
        images = torch.nn.functional.interpolate(images, LARGEST, mode="bicubic", antialias=True)
    labels = None if data.labels is None else data.labels[indices]
    return grid_png(images, captions=names_of(labels, data))


def spread_over_classes(data: ImageData, count: int) -> Tensor:
    """Indices of at most `count` images, in the order of their classes: about equally many of each
    class, evenly spaced."""
    if data.labels is None:
        return torch.tensor(evenly_spaced(len(data), count))
    members = [(data.labels == label).nonzero().flatten() for label in range(data.classes)]
    members = [indices for indices in members if len(indices)]
    members = [members[k] for k in evenly_spaced(len(members), count)]
    shares = [0] * len(members)
    while sum(shares) < min(count, sum(map(len, members))):
        for k, indices in enumerate(members):
            if shares[k] < len(indices) and sum(shares) < count:
                shares[k] += 1
    chosen = []
    for indices, share in zip(members, shares, strict=True):
        chosen.append(indices[evenly_spaced(len(indices), share)])
    return torch.cat(chosen)


def _caption(text: str, width: int) -> Tensor:
    """`text` in black on white, shortened to fit: uint8 (1, height, width)."""
    from PIL import Image, ImageDraw

    font = _font()
    line = Image.new("L", (width, CAPTION + 4), 255)
    pen = ImageDraw.Draw(line)
    shown = text
    while pen.textlength(shown, font) > width - 2 and len(shown) > 1:
        shown = f"{shown.removesuffix('…')[:-1]}…"
    pen.text((width / 2, CAPTION / 2 + 2), shown, 0, font, anchor="mm")
    return torch.from_numpy(np.array(line))[None]


@cache
def _font() -> Any:
    """Matplotlib's font, which has the letters of many languages."""
    from matplotlib import get_data_path
    from PIL import ImageFont

    return ImageFont.truetype(Path(get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf", CAPTION)


def save_npz(
    path: Path, images: Tensor, labels: Tensor | None = None, twice: bool = False, **beside: Any
) -> None:
    """Write a compressed npz: uint8 (N, C, H, W) as `images` (N, H, W, C), or floats (N, 2, 1, 1) as
    `points` (N, 2), with `labels` (N,), if any, and the arrays `beside`. `twice`: stores the images
    also as `arr_0`, which other tools expect."""
    arrays: dict[str, Any] = {}
    if images.is_floating_point():
        arrays["points"] = images.flatten(1).numpy()
    else:
        arrays["images"] = images.permute(0, 2, 3, 1).contiguous().numpy()
        if twice:
            arrays["arr_0"] = arrays["images"]
    if labels is not None:
        arrays["labels"] = labels.numpy()
    arrays |= beside
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    write_bytes(path, buffer.getvalue())


def save_gap(path: Path, gap: Gap) -> None:
    """Plot the distance of student and teacher along the path as PNG: root mean square and W2, each
    with its bound."""
    figure, (axes,) = figures.panels(1, (6.4, 4))
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
    figure.tight_layout()
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()
