"""What every kind of network is to the program."""

from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from pydantic import Field

from orchestrator.fields.field_types import Count
from orchestrator.fields.kind import Kind, family

if TYPE_CHECKING:
    from torch import nn


class Shaped(Protocol):
    """What a network has to know of the data."""

    @property
    def channels(self) -> int: ...

    @property
    def size(self) -> int: ...


@family("model")
class NetworkKind(Kind):
    """A network u(x, t, labels).

    `takes_points`: whether it suits points in the plane, which have no neighbouring pixels.
    `takes_augmentation`: whether it can be told how an image was augmented (`augment_dim`).
    `takes_end`: whether it can be told where a jump ends (`two_times`)."""

    takes_points: ClassVar[bool] = False
    takes_augmentation: ClassVar[bool] = True
    takes_end: ClassVar[bool] = True

    kind: str
    channels: Count = Field(
        default=32, description="Channels of the first level, or of every layer, >= 1."
    )

    def network(self) -> "type[nn.Module]":
        """The class of the network. It is called with `arguments`, `classes` (int, 0: no labels),
        and, where they are asked for, `two_times` (bool) and `augment_dim` (int)."""
        raise NotImplementedError

    def arguments(self, data: Shaped) -> dict[str, Any]:
        """The plain arguments of `network` for data of this shape, without those above."""
        raise NotImplementedError

    def own(self) -> dict[str, Any]:
        """The settings but `kind`."""
        return self.model_dump(mode="json", exclude={"kind"})
