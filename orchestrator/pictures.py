"""Images as files: a grid as PNG, or an array as npz."""

import io
from pathlib import Path

import numpy as np
from torch import Tensor

from kaccore.files import write_bytes

TILE = 48  # a small image is enlarged by whole pixels to about this size


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
    """uint8 (N, C, H, W) as `images` (N, H, W, C) in a compressed npz."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, images=images.permute(0, 2, 3, 1).contiguous().numpy())
    write_bytes(path, buffer.getvalue())
