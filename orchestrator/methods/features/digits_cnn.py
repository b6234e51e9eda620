"""The shipped classifiers of digits: the first, and the second that checks its numbers."""

from typing import Literal

from orchestrator.methods.feature_kind import FeatureKind, ShippedClassifier


@FeatureKind.family.register
class DigitsCnn(ShippedClassifier):
    """Classifier of digits: 64 features of 8x8 gray images."""

    features: Literal["digits-cnn-v1"] = "digits-cnn-v1"


@FeatureKind.family.register
class DigitsResnet(ShippedClassifier):
    """Second classifier of digits: 64 features of 8x8 gray images; no training ever sees it."""

    features: Literal["digits-resnet-v1"] = "digits-resnet-v1"
