"""A feature extractor: mean and standard deviation of each colour in each quarter of an image.

In an experiment: `plugins: [colours.py]` and `evaluation: {features: colours}`."""

from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from kaccore.metrics.features import FeatureSpec
from orchestrator.methods.feature_kind import FeatureKind, PluginFeatureKind


@FeatureKind.family.register
class ColoursKind(PluginFeatureKind):
    """Colours: 24 numbers of an image of any size."""

    tells_classes: ClassVar[bool] = False
    spec: ClassVar[FeatureSpec] = FeatureSpec("colours", channels=3, size=None, width=24, classes=0)

    features: Literal["colours"] = "colours"

    @classmethod
    def build(cls) -> nn.Module:
        return Colours()


class Colours(nn.Module):
    """uint8 (N, 3, H, W) or (N, 1, H, W) -> (features (N, 24), no logits (N, 0))."""

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        values = images.expand(-1, 3, -1, -1).float() / 255
        height, width = (size // 2 for size in values.shape[2:])
        quarters = values.unfold(2, height, height).unfold(3, width, width)[:, :, :2, :2]
        pixels = quarters.flatten(4)  # (N, 3, 2, 2, pixels of a quarter)
        features = torch.stack([pixels.mean(-1), pixels.std(-1)], dim=1)
        return features.flatten(1), features.new_empty(len(images), 0)
