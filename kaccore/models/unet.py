"""The ADM U-Net of Dhariwal and Nichol (arXiv 2105.05233), sized down to 8x8 digits or up to the
papers' settings.

Residual blocks with scale-shift group norm; down- and up-sampling inside residual blocks;
self-attention at exactly the image sizes that are asked for. `attention` means sizes in pixels
here: the published code's `attention_resolutions` are down-sampling factors, a well-known source of
networks without any attention.

The papers' networks for 32x32 colour images, weight for weight. Both take `attention_in="adm"`.

    arXiv 2506.20641: channels=128, multipliers=(1, 2, 2, 2), blocks=2, scale_shift=False, resample="conv"
        34,427,907   attention=(), as its code builds it: it asks for the factor 16, the size 2, and so has attention
                     in the middle alone (printed: 34 million)
        35,746,307   attention=(16,), as it was meant; this is DDPM's network for CIFAR-10 (arXiv 2006.11239)
    arXiv 2509.21513: channels=256, multipliers=(1, 2, 2, 3), blocks=3, attention=(16, 8, 4)
       322,644,483   and 1024 for each label: counted from its settings by ADM's rules

Ours differ where weights do not show it: times are scaled by 1000, and a null label has an
embedding of its own."""

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kaccore.models.attention import attend
from kaccore.models.embeddings import ConditionEmbedding, per_image, zeroed

RESAMPLE = ("residual", "conv")
ATTENTION_IN = ("all", "adm")


class UNet(nn.Module):
    """`model(x, t, labels=None) -> velocity`: x (B, C, H, W) float, t (B,) in [0, 1], labels (B,)
    int64 or None.

    With `two_times` it is called with `end` too, the time (B,) or scalar at which a jump from t
    ends; with `augment_dim` > 0 it takes `augment` (B, augment_dim), the labels of an augmentation:
    see `ConditionEmbedding`.

    `channels` is the width of the first level, multiplied by each of `multipliers` at the levels
    below (each half the size of the one above); `patch` p folds p x p pixels into channels first
    (space to depth), which makes every level p times smaller at about the same number of weights:
    cheap where channels cost less than pixels; `blocks` residual blocks a level; `attention` the
    image sizes with self-attention; `head_channels` channels per attention head; `classes` > 0 adds
    labels, with -1 or None for the null label.

    `scale_shift` False: the embedding only shifts, before the second norm. `resample` between the
    levels: "residual" blocks, or one "conv"olution each. `attention_in`: "all" blocks at the sizes
    asked for, those that arrive there by resampling and the middle one included, or as in "adm" the
    ordinary ones and always the middle.

    Raises ValueError where a size cannot be halved, attention names a size that no level has, a
    level's width is not a multiple of `head_channels` there, or a choice is unknown."""

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
        scale_shift: bool = True,
        resample: str = "residual",
        attention_in: str = "all",
        two_times: bool = False,
        augment_dim: int = 0,
    ) -> None:
        super().__init__()
        if patch < 1 or size % patch:
            raise ValueError(f"patch = {patch}: does not divide images of {size}")
        self.patch, image_channels = patch, image_channels * patch**2
        sizes = level_sizes(size // patch, len(multipliers))
        check_choices(attention, sizes, resample, attention_in)
        width = 4 * channels
        self.embed = ConditionEmbedding(
            channels, width, classes, two_times=two_times, augment_dim=augment_dim
        )
        self.enter = nn.Conv2d(image_channels, channels, 3, padding=1)

        def block(c_in: int, c_out: int, size: int, place: str = "level") -> nn.Module:
            if place in ("down", "up") and resample == "conv":
                return ConvResample(c_in, place)
            attends = size in attention and (place == "level" or attention_in == "all")
            attends |= place == "middle" and attention_in == "adm"
            heads = heads_for(c_out, head_channels) if attends else 0
            return ResidualBlock(c_in, c_out, width, dropout, heads, place, scale_shift)

        widths = [channels * m for m in multipliers]
        self.down, skips = way_down(block, channels, widths, sizes, blocks)
        c = widths[-1]
        self.middle = nn.ModuleList(
            [
                block(c, c, sizes[-1], "middle"),
                ResidualBlock(c, c, width, dropout, scale_shift=scale_shift),
            ]
        )
        self.up = way_up(block, widths, sizes, blocks, skips)
        self.leave_norm = norm(widths[0])
        self.leave = zeroed(nn.Conv2d(widths[0], image_channels, 3, padding=1))

    def forward(
        self,
        x: Tensor,
        t: Tensor,
        labels: Tensor | None = None,
        end: Tensor | float | None = None,
        augment: Tensor | None = None,
    ) -> Tensor:
        end = None if end is None else per_image(end, x)
        emb = F.silu(self.embed(per_image(t, x), labels, end, augment))
        h, skips = self._way_in(x, emb)
        for block in self.up:
            h = block(h if block.place == "up" else torch.cat([h, skips.pop()], dim=1), emb)
        return F.pixel_shuffle(self.leave(F.silu(self.leave_norm(h))), self.patch).to(x.dtype)

    def encode(self, x: Tensor, t: Tensor, labels: Tensor | None = None) -> Tensor:
        """The features of the middle, between the ways down and up: (B, ...). A
        discriminator may be read from it."""
        return self._way_in(x, F.silu(self.embed(per_image(t, x), labels)))[0]

    def _way_in(self, x: Tensor, emb: Tensor) -> tuple[Tensor, list[Tensor]]:
        """The features of the middle, and what the way up takes from the way down."""
        h = self.enter(F.pixel_unshuffle(x, self.patch))
        skips = [h]
        for block in self.down:
            h = block(h, emb)
            skips.append(h)
        for block in self.middle:
            h = block(h, emb)
        return h, skips


def way_down(
    block: Callable[..., nn.Module], c: int, widths: list[int], sizes: list[int], blocks: int
) -> tuple[nn.ModuleList, list[int]]:
    """The blocks from the first level, entered with `c` channels, to the last; and the widths of
    all it leaves behind for the way up."""
    down, skips = nn.ModuleList(), [c]
    for level, (c_level, size) in enumerate(zip(widths, sizes, strict=True)):
        for _ in range(blocks):
            down.append(block(c, c_level, size))
            c = c_level
            skips.append(c)
        if level + 1 < len(widths):
            down.append(block(c, c, sizes[level + 1], "down"))
            skips.append(c)
    return down, skips


def way_up(
    block: Callable[..., nn.Module],
    widths: list[int],
    sizes: list[int],
    blocks: int,
    skips: list[int],
) -> nn.ModuleList:
    """The blocks from the last level back to the first; each but those between the levels takes a
    skip."""
    up, c, skips = nn.ModuleList(), widths[-1], list(skips)
    for level, (c_level, size) in reversed(list(enumerate(zip(widths, sizes, strict=True)))):
        for _ in range(blocks + 1):
            up.append(block(c + skips.pop(), c_level, size))
            c = c_level
        if level:
            up.append(block(c, c, sizes[level - 1], "up"))
    return up


class ResidualBlock(nn.Module):
    """GN-SiLU-conv, scale and shift by the embedding, GN-SiLU-dropout-conv, a skip, then attention
    if `heads` > 0.

    Without `scale_shift` the embedding is added before the second norm. At `place` "down" or "up"
    the block halves or doubles the size of the image."""

    def __init__(
        self,
        c_in: int,
        c_out: int,
        width: int,
        dropout: float = 0.0,
        heads: int = 0,
        place: str = "level",
        scale_shift: bool = True,
    ) -> None:
        super().__init__()
        self.place = place
        self.norm_in, self.conv_in = norm(c_in), nn.Conv2d(c_in, c_out, 3, padding=1)
        self.scale_shift = nn.Linear(width, 2 * c_out) if scale_shift else None
        self.shift = None if scale_shift else nn.Linear(width, c_out)
        self.norm_out, self.drop = norm(c_out), nn.Dropout(dropout)
        self.conv_out = zeroed(nn.Conv2d(c_out, c_out, 3, padding=1))
        self.skip = nn.Conv2d(c_in, c_out, 1) if c_in != c_out else nn.Identity()
        self.attention = Attention(c_out, heads) if heads else None

    def forward(self, x: Tensor, emb: Tensor) -> Tensor:
        h = F.silu(self.norm_in(x))
        if self.place == "down":
            x, h = F.avg_pool2d(x, 2), F.avg_pool2d(h, 2)
        elif self.place == "up":
            x, h = F.interpolate(x, scale_factor=2.0), F.interpolate(h, scale_factor=2.0)
        h = self.conv_in(h)
        if self.scale_shift is not None:
            scale, shift = self.scale_shift(emb)[:, :, None, None].chunk(2, dim=1)
            h = self.norm_out(h) * (1 + scale) + shift
        elif self.shift is not None:
            h = self.norm_out(h + self.shift(emb)[:, :, None, None])
        x = self.skip(x) + self.conv_out(self.drop(F.silu(h)))
        return x if self.attention is None else self.attention(x)


class ConvResample(nn.Module):
    """Half the size by a convolution of stride 2 (`place` "down"), or twice by nearest pixels and a
    convolution."""

    def __init__(self, channels: int, place: str) -> None:
        super().__init__()
        self.place = place
        self.conv = nn.Conv2d(channels, channels, 3, stride=2 if place == "down" else 1, padding=1)

    def forward(self, x: Tensor, emb: Tensor) -> Tensor:
        return self.conv(x if self.place == "down" else F.interpolate(x, scale_factor=2.0))


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
        h = attend(q, k, v).transpose(-1, -2).reshape(b, c, height, width)
        return x + self.out(h)


def check_choices(
    attention: Sequence[int], sizes: list[int], resample: str, attention_in: str
) -> None:
    """Raises ValueError where a U-Net of these level `sizes` cannot be what is asked for."""
    strangers = [a for a in attention if a not in sizes]
    if strangers:
        raise ValueError(f"attention at sizes {strangers}: this U-Net has the sizes {sizes}")
    if resample not in RESAMPLE:
        raise ValueError(f"resample = {resample!r}: expected one of {', '.join(RESAMPLE)}")
    if attention_in not in ATTENTION_IN:
        raise ValueError(
            f"attention_in = {attention_in!r}: expected one of {', '.join(ATTENTION_IN)}"
        )


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
        raise ValueError(
            f"attention on {channels} channels: not a multiple of head_channels = {head_channels}"
        )
    return max(1, channels // head_channels)


def norm(channels: int) -> nn.GroupNorm:
    """Group norm with at least four channels a group, at most 32 groups."""
    groups = min(32, max(1, channels // 4))
    while channels % groups:
        groups -= 1
    return nn.GroupNorm(groups, channels)
