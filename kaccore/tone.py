"""A tone curve: a monotone map of pixel values that gives a network's images the pixel values of its
training images.

A field that is learned by regression makes images which are a little too flat: where a pixel of the
data is exactly black or white, theirs is off by a small error, and what is off beyond the range is
clamped. The curve puts that right after the last step. It is fitted to training images and to the
network's own, without a feature extractor: per channel, quantile for quantile (histogram matching)."""

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

KNOTS = 129
QUANTILES = 4096


class ToneCurve(nn.Module):
    """Piecewise linear and non-decreasing maps, one for each channel.

    `inputs` (C, K): the values at the knots, evenly spaced in each row; `outputs` (C, K): what they
    become. Values outside of the knots become those at the ends. Raises ValueError for other shapes
    and for outputs that decrease."""

    inputs: Tensor
    outputs: Tensor

    def __init__(self, inputs: Tensor, outputs: Tensor) -> None:
        super().__init__()
        if inputs.dim() != 2 or inputs.shape != outputs.shape or inputs.shape[1] < 2:
            shapes = f"inputs {tuple(inputs.shape)} and outputs {tuple(outputs.shape)}"
            raise ValueError(f"{shapes}: expected the same shape (C, K), K at least 2")
        if not bool((inputs.diff() > 0).all()) or bool((outputs.diff() < 0).any()):
            raise ValueError("expected inputs that increase, and outputs that do not decrease")
        self.register_buffer("inputs", inputs.float())
        self.register_buffer("outputs", outputs.float())

    @classmethod
    def fit(cls, made: Tensor, real: Tensor, knots: int = KNOTS) -> "ToneCurve":
        """The curve that takes the pixel values of `made` (N, C, H, W) to those of `real` (M, C, H,
        W), before any clamping. Raises ValueError for other channels, or values that are not
        finite."""
        if made.dim() != 4 or real.dim() != 4 or made.shape[1] != real.shape[1]:
            shapes = f"images of shapes {tuple(made.shape)} and {tuple(real.shape)}"
            raise ValueError(f"{shapes}: expected (N, C, H, W) with the same channels")
        if not len(made) or not len(real) or not bool(made.isfinite().all()):
            raise ValueError("expected finite images, at least one of each")
        curves = [
            _curve(_quantiles(made[:, c]), _quantiles(real[:, c]), knots)
            for c in range(made.shape[1])
        ]
        inputs, outputs = (torch.stack(rows) for rows in zip(*curves, strict=True))
        return cls(inputs, outputs)

    def forward(self, images: Tensor) -> Tensor:
        """Images (N, C, H, W) with other pixel values."""
        channels, knots = self.inputs.shape
        column = (channels, 1, 1)
        first, last = self.inputs[:, 0].view(column), self.inputs[:, -1].view(column)
        at = ((images - first) / (last - first) * (knots - 1)).clamp(0, knots - 1)
        lower = torch.nan_to_num(at).floor().clamp(max=knots - 2)
        index = lower.long() + knots * torch.arange(channels, device=images.device).view(column)
        table = self.outputs.flatten()
        low, high = table[index], table[index + 1]
        return low + (at - lower) * (high - low)  # where a pixel is NaN it stays so


class Calibrated(nn.Module):
    """A velocity `network` whose images end on a tone curve. Called, it is the network; samplers
    apply `tone` after the last step."""

    def __init__(self, network: nn.Module, tone: ToneCurve) -> None:
        super().__init__()
        self.network = network
        self.tone = tone

    def forward(self, *inputs: Any, **named: Any) -> Tensor:
        velocity: Tensor = self.network(*inputs, **named)
        return velocity


def tone_of(model: Any) -> ToneCurve | None:
    """The tone curve of a model that has one."""
    tone = getattr(model, "tone", None)
    return tone if isinstance(tone, ToneCurve) else None


def without_tone(model: Any) -> Any:
    """A `Calibrated` model's network; another model as it is."""
    return model.network if isinstance(model, Calibrated) else model


def _quantiles(values: Tensor) -> np.ndarray:
    ordered = np.sort(values.detach().double().cpu().flatten().numpy())
    middle = (np.arange(QUANTILES) + 0.5) / QUANTILES
    return ordered[(middle * len(ordered)).astype(int)]


def _curve(made: np.ndarray, real: np.ndarray, knots: int) -> tuple[Tensor, Tensor]:
    """Knots, and at each the mean of the `real` quantiles around it, with triangular weights."""
    ends = (made[0], max(made[-1], made[0] + 1e-3))
    at = np.linspace(*ends, knots)
    weights = np.clip(1 - np.abs(made - at[:, None]) / (at[1] - at[0]), 0, None)
    total = weights.sum(1)
    known = total > 1e-6
    means = weights[known] @ real / total[known]
    outputs = np.maximum.accumulate(np.interp(at, at[known], means))
    return torch.tensor(at), torch.tensor(outputs)
