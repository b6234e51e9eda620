"""The coordinates of points in the plane."""

from typing import ClassVar, Literal

from orchestrator.methods.dataset_kind import DatasetKind
from orchestrator.methods.feature_kind import FeatureKind


@FeatureKind.family.register
class Points(FeatureKind):
    """Points: the coordinates themselves."""

    tells_classes: ClassVar[bool] = False

    features: Literal["points"] = "points"

    @classmethod
    def suits(cls, data: DatasetKind) -> bool:
        return data.facts.points
