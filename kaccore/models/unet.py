"""The ADM U-Net of Dhariwal and Nichol (arXiv 2105.05233), sized down to 8x8 digits or up to the papers' settings.

Residual blocks with scale-shift group norm; down- and up-sampling inside residual blocks; self-attention at
exactly the image sizes that are asked for. `attention` means sizes in pixels here: the published code's
`attention_resolutions` are down-sampling factors, a well-known source of networks without any attention.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kaccore.models.embeddings import ConditionEmbedding


class UNet(nn.Module):
    """`model(x, t, labels=None) -> velocity`: x (B, C, H, W) float, t (B,) in [0, 1], labels (B,) int64 or None.

    `channels` is the width of the first level, multiplied by each of `multipliers` at the levels below (each half
    the size of the one above); `patch` p folds p x p pixels into channels first (space to depth), which makes every
    level p times smaller at about the same number of weights: cheap where channels cost less than pixels; `blocks`
    residual blocks a level; `attention` the image sizes with self-attention; `head_channels` channels per attention
    head; `classes` > 0 adds labels, with -1 or None for the null label. Raises ValueError where a size cannot be
    halved, attention names a size that no level has, or a level's width is not a multiple of `head_channels` there.
    """

    def __init__(
        self,
        size: int,
        image_channels: int,
        *,
        channels: int = 128,
        multipliers: Sequence[int] = (1, 2, 2, 2),
        blocks: int = 2,
        attention: Sequence[int] = (),
        head_channels: int = 64,
        patch: int = 1,
        dropout: float = 0.0,
        classes: int = 0,
    ) -> None:
        super().__init__()
        if patch < 1 or size % patch:
            raise ValueError(f"patch = {patch}: does not divide images of {size}")
        self.patch, image_channels = patch, image_channels * patch**2
        sizes = level_sizes(size // patch, len(multipliers))
        strangers = [a for a in attention if a not in sizes]
        if strangers:
            raise ValueError(f"attention at sizes {strangers}: this U-Net has the sizes {sizes}")
        width = 4 * channels
        self.embed = ConditionEmbedding(channels, width, classes)
        self.enter = nn.Conv2d(image_channels, channels, 3, padding=1)

        def block(c_in: int, c_out: int, size: int, resample: str = "none") -> ResidualBlock:
            heads = heads_for(c_out, head_channels) if size in attention else 0
            return ResidualBlock(c_in, c_out, width, dropout, heads, resample)

        widths = [channels * m for m in multipliers]
        c, skips = channels, [channels]
        self.down = nn.ModuleList()
        for level, (c_level, size) in enumerate(zip(widths, sizes, strict=True)):
            for _ in range(blocks):
                self.down.append(block(c, c_level, size))
                c = c_level
                skips.append(c)
            if level + 1 < len(widths):
                self.down.append(block(c, c, sizes[level + 1], "down"))
                skips.append(c)
        self.middle = nn.ModuleList([block(c, c, sizes[-1]), ResidualBlock(c, c, width, dropout)])
        self.up = nn.ModuleList()
        for level, (c_level, size) in reversed(list(enumerate(zip(widths, sizes, strict=True)))):
            for _ in range(blocks + 1):
                self.up.append(block(c + skips.pop(), c_level, size))
                c = c_level
            if level:
                self.up.append(block(c, c, sizes[level - 1], "up"))
        self.leave_norm = norm(c)
        self.leave = zeroed(nn.Conv2d(c, image_channels, 3, padding=1))

    def forward(self, x: Tensor, t: Tensor, labels: Tensor | None = None) -> Tensor:
        t = t.expand(len(x)) if t.ndim == 0 else t
        emb = F.silu(self.embed(t, labels))
        x = self.enter(F.pixel_unshuffle(x, self.patch))
        skips = [x]
        for block in self.down:
            x = block(x, emb)
            skips.append(x)
        for block in self.middle:
            x = block(x, emb)
        for block in self.up:
            x = block(x if block.resample == "up" else torch.cat([x, skips.pop()], dim=1), emb)
        return F.pixel_shuffle(self.leave(F.silu(self.leave_norm(x))), self.patch)


class ResidualBlock(nn.Module):
    """GN-SiLU-conv, scale and shift by the embedding, GN-SiLU-dropout-conv, a skip, then attention if `heads` > 0."""

    def __init__(
        self, c_in: int, c_out: int, width: int, dropout: float = 0.0, heads: int = 0, resample: str = "none"
    ) -> None:
        super().__init__()
        self.resample = resample
        self.norm_in, self.conv_in = norm(c_in), nn.Conv2d(c_in, c_out, 3, padding=1)
        self.scale_shift = nn.Linear(width, 2 * c_out)
        self.norm_out, self.drop = norm(c_out), nn.Dropout(dropout)
        self.conv_out = zeroed(nn.Conv2d(c_out, c_out, 3, padding=1))
        self.skip = nn.Conv2d(c_in, c_out, 1) if c_in != c_out else nn.Identity()
        self.attention = Attention(c_out, heads) if heads else None

    def forward(self, x: Tensor, emb: Tensor) -> Tensor:
        h = F.silu(self.norm_in(x))
        if self.resample == "down":
            x, h = F.avg_pool2d(x, 2), F.avg_pool2d(h, 2)
        elif self.resample == "up":
            x, h = F.interpolate(x, scale_factor=2.0), F.interpolate(h, scale_factor=2.0)
        h = self.conv_in(h)
        scale, shift = self.scale_shift(emb)[:, :, None, None].chunk(2, dim=1)
        h = self.norm_out(h) * (1 + scale) + shift
        x = self.skip(x) + self.conv_out(self.drop(F.silu(h)))
        return x if self.attention is None else self.attention(x)


class Attention(nn.Module):
    """Multi-head self-attention over the pixels, added to its input."""

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm, self.qkv = norm(channels), nn.Conv2d(channels, 3 * channels, 1)
        self.out = zeroed(nn.Conv2d(channels, channels, 1))

    def forward(self, x: Tensor) -> Tensor:
        b, c, height, width = x.shape
        qkv = self.qkv(self.norm(x)).reshape(b, 3, self.heads, c // self.heads, height * width)
        q, k, v = qkv.transpose(-1, -2).unbind(1)
        h = F.scaled_dot_product_attention(q, k, v).transpose(-1, -2).reshape(b, c, height, width)
        return x + self.out(h)


def level_sizes(size: int, levels: int) -> list[int]:
    """The image size at each level; raises ValueError where a size cannot be halved."""
    sizes = [size]
    for _ in range(levels - 1):
        if sizes[-1] % 2 or sizes[-1] < 4:
            raise ValueError(
                f"{levels} levels: images of {size} can be halved only to {sizes[-1]}; use fewer multipliers"
            )
        sizes.append(sizes[-1] // 2)
    return sizes


def heads_for(channels: int, head_channels: int) -> int:
    """How many heads of `head_channels` fit; one where a level is narrower than a head."""
    if channels > head_channels and channels % head_channels:
        raise ValueError(f"attention on {channels} channels: not a multiple of head_channels = {head_channels}")
    return max(1, channels // head_channels)


def norm(channels: int) -> nn.GroupNorm:
    """Group norm with at least four channels a group, at most 32 groups."""
    groups = min(32, max(1, channels // 4))
    while channels % groups:
        groups -= 1
    return nn.GroupNorm(groups, channels)


def zeroed(layer: nn.Conv2d) -> nn.Conv2d:
    """`layer` with its weights and bias at zero, so that the block starts as the identity."""
    nn.init.zeros_(layer.weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer
