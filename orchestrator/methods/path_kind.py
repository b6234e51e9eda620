"""The interface of every kind of path."""

from abc import abstractmethod
from typing import TYPE_CHECKING, Any

from pydantic import Field

from orchestrator.fields.field_types import Positive
from orchestrator.fields.kind import Kind, family

if TYPE_CHECKING:
    from kaccore.paths import Batches, Path


@family("path")
class PathKind(Kind):
    """A path from data to noise."""

    kind: str

    @property
    def starts_from_data(self) -> bool:
        """Whether the prior contains training images, so that sampling needs the data."""
        return False

    @property
    def has_density(self) -> bool:
        """Whether kaccore knows the density of the prior, which a likelihood needs."""
        return False

    @abstractmethod
    def build(self, data: "Batches") -> "Path":
        """The path; `data`: the training images, for a prior that contains some."""

    @abstractmethod
    def noise_law(self) -> dict[str, Any]:
        """The law of the prior, for the description of an exported sampler."""


class NormalPriorKind(PathKind):
    """A path with a normal prior. By default it is as wide as a Kac prior, so that a sweep over
    `path.kind` compares paths of equal width."""

    damping: Positive = Field(
        default=25.0,
        description="Damping of the Kac prior whose width is used if width is null, > 0.",
    )
    speed: Positive = Field(
        default=2.0,
        description="Speed of the Kac prior whose width is used if width is null, > 0.",
    )
    width: Positive | None = Field(
        default=None,
        description="Standard deviation of the prior in image units, > 0; null: that of the Kac prior with this "
        "damping and speed, so that kinds compare at equal width.",
    )

    @property
    def prior_width(self) -> float:
        """The standard deviation of the prior, in image units."""
        return kac_width(self.damping, self.speed) if self.width is None else self.width

    def content(self) -> dict[str, Any]:
        own = {k: v for k, v in super().content().items() if k not in ("damping", "speed")}
        return own | {"width": self.prior_width}

    def noise_law(self) -> dict[str, Any]:
        return {"law": "normal", "mean": 0.0, "standard_deviation": self.prior_width}


def kac_width(damping: float, speed: float) -> float:
    """The standard deviation of the Kac prior, in image units."""
    import torch

    from kaccore import KacProcess

    return float(KacProcess(damping, speed).variance(torch.tensor(1.0, dtype=torch.float64)).sqrt())
