"""DINOv2's vision transformer (Oquab et al. 2023, arXiv 2304.07193), for FD-DINOv2 (Stein et al.
2023, 2306.04675).

    image 224x224 -> 16x16 patches of 14 pixels, and a class token -> blocks -> the class token,
    normalised

The modules have the names of Meta's published weights, so that these load unchanged. torch-fidelity
has an extractor with the same names that downloads and runs Meta's code, takes no weight file, and
resizes images bilinearly. Here images are resized to 224x224 as in the paper's code, by PIL's bicubic
interpolation; so numbers compare with those published as FD-DINOv2, and not exactly with
torch-fidelity's."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kaccore.metrics.features import DINOV2

SIZE, PATCH = 224, 14
TRAINED_GRID = 37  # patches a side at which the position embedding was trained: 518 pixels
SHAPES = dict(zip(DINOV2, ((12, 6), (12, 12), (24, 16)), strict=True))  # depth and heads
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # ImageNet's, of pixels from 0 to 1


class PatchEmbedding(nn.Module):
    """(N, 3, H, H) -> one token for each patch, (N, (H/14)^2, width), row by row."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, width, PATCH, stride=PATCH)

    def forward(self, x: Tensor) -> Tensor:
        return self.proj(x).flatten(2).mT


class Attention(nn.Module):
    """Multi-head self-attention: (N, T, width) -> the same."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        n, tokens, width = x.shape
        qkv = self.qkv(x).reshape(n, tokens, 3, self.heads, width // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        attended = F.scaled_dot_product_attention(q, k, v).transpose(1, 2)
        return self.proj(attended.reshape(n, tokens, width))


class MLP(nn.Module):
    """width -> 4 width -> width, for each token separately."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(x)))


class LayerScale(nn.Module):
    """A learned factor for each channel."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gamma


class Block(nn.Module):
    """x + scaled attention of the normalised x, then likewise with the MLP."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=1e-6)
        self.attn = Attention(width, heads)
        self.ls1 = LayerScale(width)
        self.norm2 = nn.LayerNorm(width, eps=1e-6)
        self.mlp = MLP(width)
        self.ls2 = LayerScale(width)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.ls1(self.attn(self.norm1(x)))
        return x + self.ls2(self.mlp(self.norm2(x)))


class VisionTransformer(nn.Module):
    """Normalised images (N, 3, 224, 224) -> the class token after the last block, (N, width)."""

    def __init__(self, name: str) -> None:
        super().__init__()
        width, (depth, heads) = DINOV2[name], SHAPES[name]
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + TRAINED_GRID**2, width))
        # used only in training, but part of the published weights
        self.mask_token = nn.Parameter(torch.zeros(1, width))
        self.patch_embed = PatchEmbedding(width)
        self.blocks = nn.Sequential(*(Block(width, heads) for _ in range(depth)))
        self.norm = nn.LayerNorm(width, eps=1e-6)

    def positions(self) -> Tensor:
        """The position embedding for 16x16 patches, (1, 1 + 256, width): bicubic, with a scale that
        is a tenth of a patch too large, as in Meta's code."""
        grid = self.pos_embed[:, 1:].mT.unflatten(2, (TRAINED_GRID, TRAINED_GRID))
        scale = (SIZE // PATCH + 0.1) / TRAINED_GRID
        grid = F.interpolate(grid, scale_factor=(scale, scale), mode="bicubic")
        return torch.cat([self.pos_embed[:, :1], grid.flatten(2).mT], dim=1)

    def forward(self, x: Tensor) -> Tensor:
        tokens = torch.cat([self.cls_token.expand(len(x), -1, -1), self.patch_embed(x)], dim=1)
        return self.norm(self.blocks(tokens + self.positions()))[:, 0]


class DinoFeatures(nn.Module):
    """Images uint8 (N, 3, H, H) of any size -> (features (N, width), no logits (N, 0))."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.model = VisionTransformer(name)
        self.requires_grad_(False)
        self.eval()

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        features = self.model(preprocessed(images))
        return features, features.new_empty(len(features), 0)


def preprocessed(images: Tensor) -> Tensor:
    """Images uint8 (N, 3, H, W) -> the network's input (N, 3, 224, 224): resized as in PIL,
    horizontally and then vertically with rounding to whole levels each time, then normalised by
    ImageNet's mean and standard deviation."""
    x = images.to(torch.float32)
    for size in ((x.shape[2], SIZE), (SIZE, SIZE)):
        x = F.interpolate(x, size, mode="bicubic", antialias=True).round().clamp(0, 255)
    mean, std = (torch.tensor(values, device=x.device).view(3, 1, 1) for values in (MEAN, STD))
    return (x / 255 - mean) / std
