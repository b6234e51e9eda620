"""The interface of every kind of network."""

from abc import abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from pydantic import Field

from orchestrator.fields.field_types import Count
from orchestrator.fields.kind import Kind, family

if TYPE_CHECKING:
    from torch import nn


class Shaped(Protocol):
    """What a network needs to know about the data."""

    @property
    def channels(self) -> int: ...

    @property
    def size(self) -> int: ...


@family("model")
class NetworkKind(Kind):
    """A network u(x, t, labels).

    `takes_points`: whether it is for points in the plane, which have no neighbouring pixels.
    `takes_augmentation`: whether it can take the augmentation of an image as an input
    (`augment_dim`). `takes_end`: whether it can take the end time of a jump as an input
    (`two_times`). `encodes`: whether it has `encode(x, t, labels)`, the features in its middle
    (B, ...)."""

    takes_points: ClassVar[bool] = False
    takes_augmentation: ClassVar[bool] = True
    takes_end: ClassVar[bool] = True
    encodes: ClassVar[bool] = False

    kind: str
    channels: Count = Field(
        default=32, description="Channels of the first level, or of every layer, >= 1."
    )

    @abstractmethod
    def network(self) -> "type[nn.Module]":
        """The class of the network. It is called with `arguments`, `classes` (int, 0: no labels),
        and, if needed, `two_times` (bool) and `augment_dim` (int)."""

    @abstractmethod
    def arguments(self, data: Shaped) -> dict[str, Any]:
        """The arguments of `network` for data of this shape, without `classes`, `two_times` and
        `augment_dim`."""

    def own(self) -> dict[str, Any]:
        """The settings without `kind`."""
        return self.model_dump(mode="json", exclude={"kind"})
