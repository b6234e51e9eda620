"""The shipped classifier of MNIST."""

from typing import Literal

from orchestrator.methods.dataset_kind import DatasetKind
from orchestrator.methods.feature_kind import FeatureKind


@FeatureKind.family.register
class MnistCnn(FeatureKind):
    """Classifier of MNIST: 64 features of 28x28 gray images."""

    features: Literal["mnist-cnn-v1"] = "mnist-cnn-v1"

    @classmethod
    def suits(cls, data: DatasetKind) -> bool:
        return data.name == cls.shipped_for()
