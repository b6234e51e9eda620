"""The diffusion transformer, DiT, of Peebles and Xie (arXiv 2212.09748): an image as a sequence of
its patches.

Fixed sine and cosine positions; each block is shifted, scaled and gated by the condition, with all
gates at zero at first (adaLN-zero), so that a fresh network is the zero field.

The published sizes, `patch` 2 to 8:  S: channels=384, depth=12, heads=6   B: 768, 12, 12   L: 1024, 24, 16
XL: 1152, 28, 16.  They predict a variance too, which a velocity field has not: their last layer is twice ours.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kaccore.models.attention import attend
from kaccore.models.embeddings import ConditionEmbedding, per_image, zeroed

TIME_CHANNELS = 256  # sinusoids of the time, whatever the width, as published


class DiT(nn.Module):
    """`model(x, t, labels=None) -> velocity`: x (B, C, H, W) float, t (B,) in [0, 1], labels (B,)
    int64 or None.

    `patch` p makes (size / p)^2 tokens of `channels` numbers each; `depth` blocks of self-attention
    with `heads` and a perceptron four times as wide; `dropout` on what each adds; `classes` > 0
    adds labels, with -1 or None for the null label. `two_times` adds `end` and `augment_dim` > 0
    `augment` to the call: see `ConditionEmbedding`.

    Raises ValueError where `patch` does not divide `size`, or `channels` is not a multiple of
    `heads` and of 4."""

    def __init__(
        self,
        size: int,
        image_channels: int,
        *,
        channels: int = 384,
        depth: int = 12,
        heads: int = 6,
        patch: int = 2,
        dropout: float = 0.0,
        classes: int = 0,
        two_times: bool = False,
        augment_dim: int = 0,
    ) -> None:
        super().__init__()
        if patch < 1 or size % patch:
            raise ValueError(f"patch = {patch}: does not divide images of {size}")
        if heads < 1 or channels % heads:
            raise ValueError(f"heads = {heads}: does not divide channels = {channels}")
        if channels % 4:
            raise ValueError(
                f"channels = {channels}: expected a multiple of 4, for sines and cosines of two positions"
            )
        self.patch = patch
        self.embed = ConditionEmbedding(
            TIME_CHANNELS, channels, classes, two_times=two_times, augment_dim=augment_dim
        )
        for layer in (self.embed.hidden, self.embed.out, self.embed.label):
            if layer is not None:
                nn.init.normal_(layer.weight, std=0.02)
        self.enter = xavier(nn.Linear(image_channels * patch**2, channels))
        self.positions: Tensor
        self.register_buffer("positions", sine_positions(size // patch, channels), persistent=False)
        self.blocks = nn.ModuleList(Block(channels, heads, dropout) for _ in range(depth))
        self.leave_norm = AdaptiveNorm(channels)
        self.leave = zeroed(nn.Linear(channels, image_channels * patch**2))

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
        patches = F.pixel_unshuffle(x, self.patch)
        h = self._tokens(patches)
        for block in self.blocks:
            h = block(h, emb)
        h = self.leave(self.leave_norm(h, emb))
        return F.pixel_shuffle(h.transpose(1, 2).unflatten(2, patches.shape[2:]), self.patch).to(
            x.dtype
        )

    def encode(self, x: Tensor, t: Tensor, labels: Tensor | None = None) -> Tensor:
        """The tokens after the first half of the blocks, rounded up: (B, ...). A
        discriminator may be read from it."""
        emb = F.silu(self.embed(per_image(t, x), labels))
        h = self._tokens(F.pixel_unshuffle(x, self.patch))
        for block in self.blocks[: -(-len(self.blocks) // 2)]:
            h = block(h, emb)
        return h

    def _tokens(self, patches: Tensor) -> Tensor:
        tokens: Tensor = self.enter(patches.flatten(2).transpose(1, 2))
        return tokens + self.positions


class Block(nn.Module):
    """h + gate attention(norm(h)), then the same with a perceptron: (B, N, C) -> (B, N, C)."""

    def __init__(self, channels: int, heads: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.heads, self.drop = heads, nn.Dropout(dropout)
        self.norm_attention = AdaptiveNorm(channels)
        self.norm_mlp = AdaptiveNorm(channels)
        self.qkv = xavier(nn.Linear(channels, 3 * channels))
        self.out = xavier(nn.Linear(channels, channels))
        self.gates = zeroed(nn.Linear(channels, 2 * channels))
        self.hidden = xavier(nn.Linear(channels, 4 * channels))
        self.mlp_out = xavier(nn.Linear(4 * channels, channels))

    def forward(self, h: Tensor, emb: Tensor) -> Tensor:
        gate_attention, gate_mlp = self.gates(emb)[:, None].chunk(2, dim=-1)
        h = h + gate_attention * self.drop(self.attend(self.norm_attention(h, emb)))
        mlp = self.mlp_out(F.gelu(self.hidden(self.norm_mlp(h, emb)), approximate="tanh"))
        return h + gate_mlp * self.drop(mlp)

    def attend(self, h: Tensor) -> Tensor:
        """Multi-head self-attention over the tokens."""
        q, k, v = self.qkv(h).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        return self.out(attend(q, k, v).transpose(1, 2).flatten(2))


class AdaptiveNorm(nn.Module):
    """Layer norm without weights of its own, scaled by 1 + a and shifted by b, both linear in the
    condition."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels, eps=1e-6, elementwise_affine=False)
        self.scale_shift = zeroed(nn.Linear(channels, 2 * channels))

    def forward(self, h: Tensor, emb: Tensor) -> Tensor:
        scale, shift = self.scale_shift(emb)[:, None].chunk(2, dim=-1)
        return self.norm(h) * (1 + scale) + shift


def sine_positions(side: int, channels: int) -> Tensor:
    """Where each of side x side tokens lies: (side^2, channels), a half for its row and a half for
    its column."""
    frequency = torch.exp(-math.log(10_000) * torch.arange(channels // 4) / (channels // 4))
    angle = torch.arange(side)[:, None] * frequency
    waves = torch.cat([angle.sin(), angle.cos()], dim=1)
    row = waves[:, None].expand(side, side, -1)
    return torch.cat([row, row.transpose(0, 1)], dim=2).flatten(0, 1)


def xavier(layer: nn.Linear) -> nn.Linear:
    """`layer` with Xavier's uniform weights and no bias, as published."""
    nn.init.xavier_uniform_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer
