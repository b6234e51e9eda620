"""Samples as files: a grid of images or a scatter of points as PNG, or an array as npz."""

import io
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from kaccore.data import ImageData, PointData
from kaccore.diagnostics.gap import Gap
from kaccore.files import write_bytes

TILE = 48  # a small image is enlarged by whole pixels to about this size
SCATTERED = 1000  # points shown at most: those of the data in so many places hide what is missed


def save_samples(path: Path, samples: Tensor, data: ImageData) -> None:
    """`samples`, shaped and typed as `data.images`, as PNG or, by the name, as npz."""
    if path.suffix == ".npz":
        save_npz(path, samples)
    elif isinstance(data, PointData):
        save_scatter(path, samples.flatten(1), data.points)
    else:
        save_grid(path, samples)


def save_each(folder: Path, images: Tensor) -> None:
    """uint8 (N, C, H, W) as a PNG each, 00000.png and on, in `folder`, which is new or empty; all of them or none."""
    folder = folder.absolute()
    aside = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
    aside.mkdir()
    try:
        for k, image in enumerate(images):
            write_bytes(aside / f"{k:05d}.png", png(image))
        aside.replace(folder)
    except BaseException:
        shutil.rmtree(aside, ignore_errors=True)
        raise


def png(image: Tensor) -> bytes:
    """uint8 (C, H, W) as a PNG file, pixel for pixel."""
    from torchvision.io import encode_png

    return encode_png(image.contiguous()).numpy().tobytes()


def save_scatter(path: Path, points: Tensor, real: Tensor) -> None:
    """Points (N, 2) over as many of the `real` ones (M, 2), in gray, as PNG."""
    write_bytes(path, scatter_png(points, real))


def scatter_png(points: Tensor, real: Tensor) -> bytes:
    """The PNG file of `save_scatter`, as bytes."""
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


def save_grid(path: Path, images: Tensor, columns: int = 8) -> None:
    """uint8 (N, C, H, W) as a PNG grid, row by row, small images enlarged by whole pixels."""
    write_bytes(path, grid_png(images, columns))


def grid_png(images: Tensor, columns: int = 8) -> bytes:
    """The PNG file of `save_grid`, as bytes."""
    from PIL import Image
    from torchvision.utils import make_grid

    scale = max(1, TILE // images.shape[-1])
    big = images.repeat_interleave(scale, -1).repeat_interleave(scale, -2)
    grid = make_grid(big, nrow=columns, padding=2, pad_value=128)
    buffer = io.BytesIO()
    Image.fromarray(grid.permute(1, 2, 0).numpy()).save(buffer, "PNG")
    return buffer.getvalue()


def save_npz(path: Path, images: Tensor) -> None:
    """uint8 (N, C, H, W) as `images` (N, H, W, C) in a compressed npz; floats (N, 2, 1, 1) as `points` (N, 2)."""
    buffer = io.BytesIO()
    if images.is_floating_point():
        np.savez_compressed(buffer, points=images.flatten(1).numpy())
    else:
        np.savez_compressed(buffer, images=images.permute(0, 2, 3, 1).contiguous().numpy())
    write_bytes(path, buffer.getvalue())


def save_gap(path: Path, gap: Gap) -> None:
    """Student against teacher along the path: root-mean-square distance and W2, each with its bound, as PNG."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(6.4, 4), dpi=150)
    for name, curve, colour in (("RMS", gap.rms, "#0072B2"), ("W2", gap.w2, "#D55E00")):
        if curve is not None:
            axes.plot(gap.times, curve.distance, color=colour, label=f"{name} distance")
            axes.plot(gap.times, curve.bound, color=colour, linestyle="--", label=f"{name} bound")
    axes.plot(gap.times[gap.ends], gap.rms.distance[gap.ends], "o", color="black", label="ends of the student's steps")
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
