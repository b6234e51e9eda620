"""A multi-layer perceptron over all values of a sample, for points in the plane."""

from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from orchestrator.fields.field_types import Count
from orchestrator.methods.network_kind import NetworkKind, Shaped

if TYPE_CHECKING:
    from torch import nn


@NetworkKind.family.register
class MLP(NetworkKind):
    """MLP: fully connected layers, for points."""

    takes_points: ClassVar[bool] = True
    takes_augmentation: ClassVar[bool] = False

    encodes: ClassVar[bool] = True

    kind: Literal["mlp"] = "mlp"
    depth: Count = Field(default=4, description="Hidden layers, >= 1.")

    def network(self) -> "type[nn.Module]":
        from kaccore.models import MLP

        return MLP

    def arguments(self, data: Shaped) -> dict[str, Any]:
        return {"dimension": data.channels * data.size**2, **self.own()}
