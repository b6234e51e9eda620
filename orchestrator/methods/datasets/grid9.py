"""Points in the plane whose density is known exactly."""

from typing import ClassVar, Literal

from orchestrator.methods.dataset_facts import DataFacts
from orchestrator.methods.dataset_kind import DatasetKind


@DatasetKind.family.register
class Grid9(DatasetKind):
    """Grid of nine narrow Gaussians: 20,000 points in the plane, nine classes."""

    has_density: ClassVar[bool] = True
    known: ClassVar[DataFacts] = DataFacts(2, 1, 9, 20_000, packaged=True, points=True)

    name: Literal["grid9"] = "grid9"
