"""The diffusion transformer (arXiv 2212.09748)."""

from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from orchestrator.fields.field_types import Count, Fraction
from orchestrator.fields.rule import kind_rule
from orchestrator.methods.image_networks import ImageNetworkKind
from orchestrator.methods.network_kind import NetworkKind, Shaped

if TYPE_CHECKING:
    from torch import nn

    from orchestrator.settings.experiment import Experiment


@NetworkKind.family.register
class DiT(ImageNetworkKind):
    """DiT: a transformer over patches of pixels."""

    encodes: ClassVar[bool] = True

    kind: Literal["dit"] = "dit"
    depth: Count = Field(default=4, description="Transformer blocks, >= 1.")
    dropout: Fraction = Field(
        default=0.0, description="Dropout probability in training, >= 0 and < 1."
    )
    head_channels: Count = Field(default=32, description="Channels per attention head, >= 1.")

    def network(self) -> "type[nn.Module]":
        from kaccore.models import DiT

        return DiT

    def arguments(self, data: Shaped) -> dict[str, Any]:
        settings = self.own()
        settings["heads"] = self.channels // settings.pop("head_channels")
        return {"size": data.size, "image_channels": data.channels, **settings}

    @kind_rule("model.head_channels", "model.kind", "model.channels")
    def _heads_divide_width(self, experiment: "Experiment") -> str | None:
        if self.channels % self.head_channels == 0:
            return None
        return f"got {self.head_channels}, expected a divisor of model.channels, {self.channels}"
