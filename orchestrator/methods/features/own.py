"""A small network that is trained on the data set itself."""

from typing import Literal

from orchestrator.methods.feature_kind import FeatureKind


@FeatureKind.family.register
class Own(FeatureKind):
    """Own: a small network trained on the data set; its scores compare within this data set only."""

    features: Literal["own"] = "own"
