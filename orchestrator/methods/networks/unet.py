"""The U-Net of DDPM and ADM (arXiv 2006.11239, 2105.05233)."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from orchestrator.fields.faults import describe
from orchestrator.fields.field_types import Count, Counts, Fraction, Sizes
from orchestrator.fields.rule import kind_rule
from orchestrator.methods.image_networks import ImageNetworkKind
from orchestrator.methods.network_kind import NetworkKind, Shaped

if TYPE_CHECKING:
    from torch import nn

    from orchestrator.settings.experiment import Experiment


@NetworkKind.family.register
class UNet(ImageNetworkKind):
    """U-Net: residual blocks and self-attention at several sizes."""

    is_default: ClassVar[bool] = True

    encodes: ClassVar[bool] = True

    kind: Literal["unet"] = "unet"
    multipliers: Counts = Field(
        default=(1, 2),
        description="Channels of each level as a multiple of model.channels, each >= 1; each level halves the size.",
    )
    blocks: Count = Field(default=1, description="Residual blocks per level, >= 1.")
    attention: Sizes = Field(
        default=(),
        description="Image sizes in pixels at which levels have self-attention.",
    )
    attention_in: Literal["all", "adm"] = Field(
        default="all",
        description="Blocks with attention at those sizes: all, or adm (not the resampling ones; always the middle).",
    )
    scale_shift: bool = Field(
        default=True,
        description="Whether the time embedding scales and shifts the norms (true) or is added (false).",
    )
    resample: Literal["residual", "conv"] = Field(
        default="residual",
        description="Layers that resample: residual (inside blocks) or conv (between blocks).",
    )
    dropout: Fraction = Field(
        default=0.0, description="Dropout probability in training, >= 0 and < 1."
    )
    head_channels: Count = Field(default=32, description="Channels per attention head, >= 1.")

    def network(self) -> "type[nn.Module]":
        from kaccore.models import UNet

        return UNet

    def arguments(self, data: Shaped) -> dict[str, Any]:
        return {"size": data.size, "image_channels": data.channels, **self.own()}

    def sizes(self, experiment: "Experiment") -> list[int]:
        """The image size at each level; empty if it is not known, or for points, which other rules
        report."""
        facts = experiment.data.facts
        if not facts.size or facts.points:
            return []
        return level_sizes(facts.size // self.patch, len(self.multipliers))

    @kind_rule("model.multipliers", "model.kind", "model.patch", "data.name", "data.size")
    def _levels_fit(self, experiment: "Experiment") -> str | None:
        sizes = self.sizes(experiment)
        if not sizes or len(sizes) == len(self.multipliers):
            return None
        got = f"got {describe(self.multipliers)}, expected at most {len(sizes)} levels"
        why = f"images of {experiment.data.name} have the sizes {_listed(sizes)}"
        return f"{got}: {why}, and {sizes[-1]} cannot be halved"

    @kind_rule(
        "model.attention",
        "model.kind",
        "model.multipliers",
        "model.patch",
        "data.name",
        "data.size",
    )
    def _attention_at_level_sizes(self, experiment: "Experiment") -> str | None:
        sizes = self.sizes(experiment)
        if not sizes or set(self.attention) <= set(sizes):
            return None
        what = f"image sizes of this U-Net for {experiment.data.name}: {_listed(sizes)}"
        return f"got {describe(self.attention)}, expected {what}"

    @kind_rule(
        "model.head_channels",
        "model.kind",
        "model.attention",
        "model.channels",
        "model.multipliers",
        "model.patch",
        "data.name",
        "data.size",
    )
    def _heads_divide_widths(self, experiment: "Experiment") -> str | None:
        for size, width in self._attended_widths(self.sizes(experiment)):
            if width > self.head_channels and width % self.head_channels:
                got = f"got {self.head_channels}, expected a divisor of {width}"
                where = f"attention at size {size} has {width} channels"
                return f"{got}: {where} (model.channels, model.multipliers)"
        return None

    def _attended_widths(self, sizes: list[int]) -> Iterable[tuple[int, int]]:
        """(size, channels) of each block with attention: those of a level, and those that resample
        from the adjacent levels."""
        widths = [self.channels * multiplier for multiplier in self.multipliers]
        for level, size in enumerate(sizes):
            if size in self.attention:
                for width in widths[max(0, level - 1) : level + 2]:
                    yield size, width


def level_sizes(size: int, levels: int) -> list[int]:
    """The image size at each level of a U-Net; fewer than `levels` if a size cannot be halved."""
    sizes = [size]
    while len(sizes) < levels and sizes[-1] % 2 == 0 and sizes[-1] >= 4:
        sizes.append(sizes[-1] // 2)
    return sizes


def _listed(values: Iterable[int]) -> str:
    return ", ".join(map(str, values))
