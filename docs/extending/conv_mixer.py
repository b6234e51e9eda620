"""A ConvMixer (arXiv 2201.09792) with the time and the label as inputs.

In an experiment: `plugins: [conv_mixer.py]` and `model: {kind: conv_mixer}`."""

from typing import Any, ClassVar, Literal

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from kaccore.models.embeddings import ConditionEmbedding, per_image
from orchestrator.fields.field_types import Count
from orchestrator.methods.network_kind import NetworkKind, Shaped


@NetworkKind.family.register
class ConvMixerKind(NetworkKind):
    """ConvMixer: depthwise and pointwise convolutions in turn."""

    takes_augmentation: ClassVar[bool] = False  # if True, it takes `augment_dim`
    takes_end: ClassVar[bool] = False  # if True, it takes `two_times`, for consistency

    kind: Literal["conv_mixer"] = "conv_mixer"
    depth: Count = Field(default=4, description="Blocks, >= 1.")
    radius: Count = Field(default=2, description="Pixels that a block sees to each side, >= 1.")

    def network(self) -> type[nn.Module]:
        return ConvMixer

    def arguments(self, data: Shaped) -> dict[str, Any]:
        return {"image_channels": data.channels, **self.own()}


class ConvMixer(nn.Module):
    """`model(x, t, labels=None) -> velocity`: x (B, C, H, W), t (B,) in [0, 1]."""

    def __init__(
        self, image_channels: int, *, channels: int, depth: int, radius: int, classes: int = 0
    ) -> None:
        super().__init__()
        self.embed = ConditionEmbedding(channels, channels, classes)
        self.enter = nn.Conv2d(image_channels, channels, 3, padding=1)
        kernel = {"kernel_size": 2 * radius + 1, "padding": radius, "groups": channels}
        self.across = nn.ModuleList(nn.Conv2d(channels, channels, **kernel) for _ in range(depth))
        self.along = nn.ModuleList(nn.Conv2d(channels, channels, 1) for _ in range(depth))
        self.leave = nn.Conv2d(channels, image_channels, 3, padding=1)

    def forward(self, x: Tensor, t: Tensor, labels: Tensor | None = None) -> Tensor:
        condition = self.embed(per_image(t, x), labels)[:, :, None, None]
        h = self.enter(x)
        for across, along in zip(self.across, self.along, strict=True):
            h = h + F.silu(across(h + condition))
            h = h + F.silu(along(h))
        return self.leave(h)
