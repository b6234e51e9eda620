"""Straight lines to one-dimensional noise that is fitted to the data (arXiv 2510.12636)."""

from typing import TYPE_CHECKING, Annotated, Any, Literal

from annotated_types import Ge
from pydantic import Field

from orchestrator.fields.field_types import NotNegative
from orchestrator.methods.path_kind import PathKind

if TYPE_CHECKING:
    from kaccore.paths import Batches, Path

HOW = (
    "Each coordinate alone: its quantile function in the training data at a uniform number, plus a uniform number of "
    "standard deviation `smooth`. The table is not in this file: kaccore.QuantilePath.fit(data, knots, smooth).prior"
)


@PathKind.family.register
class Quantile(PathKind):
    """Quantile: straight lines to noise of which each coordinate has the law that it has in the data."""

    kind: Literal["quantile"] = "quantile"
    knots: Annotated[int, Ge(2)] = Field(
        default=65, description="Levels at which the quantile functions are kept, >= 2."
    )
    smooth: NotNegative = Field(
        default=0.1,
        description="Standard deviation of the uniform noise that is added to each coordinate, in image units, >= 0.",
    )

    @property
    def starts_from_data(self) -> bool:
        return True  # its noise is fitted to them

    def build(self, data: "Batches") -> "Path":
        from kaccore import QuantilePath

        return QuantilePath.fit(data, self.knots, self.smooth)

    def noise_law(self) -> dict[str, Any]:
        return {"law": "quantile", "knots": self.knots, "smooth": self.smooth, "how": HOW}
