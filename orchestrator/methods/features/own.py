"""A small network that is trained on the data set itself."""

from typing import Literal

from orchestrator.methods.feature_kind import FeatureKind


@FeatureKind.family.register
class Own(FeatureKind):
    """Own: a small network trained on the data set itself, whose numbers compare within it alone."""

    features: Literal["own"] = "own"
