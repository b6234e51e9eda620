"""The shipped classifiers of MNIST: the first, and the second that checks its numbers."""

from typing import Literal

from orchestrator.methods.feature_kind import FeatureKind, ShippedClassifier


@FeatureKind.family.register
class MnistCnn(ShippedClassifier):
    """Classifier of MNIST: 64 features of 28x28 gray images."""

    features: Literal["mnist-cnn-v1"] = "mnist-cnn-v1"


@FeatureKind.family.register
class MnistResnet(ShippedClassifier):
    """Second classifier of MNIST: 64 features of 28x28 gray images; no training ever sees it."""

    features: Literal["mnist-resnet-v1"] = "mnist-resnet-v1"
