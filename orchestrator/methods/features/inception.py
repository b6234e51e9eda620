"""Inception, the features of FID (arXiv 1706.08500)."""

from typing import Literal

from orchestrator.methods.feature_kind import FeatureKind


@FeatureKind.family.register
class Inception(FeatureKind):
    """Inception: the features of FID, 2,048 of images of any size."""

    features: Literal["inception-v3-compat"] = "inception-v3-compat"
