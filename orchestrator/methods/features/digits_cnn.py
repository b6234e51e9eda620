"""The shipped classifier of digits."""

from typing import Literal

from orchestrator.methods.dataset_kind import DatasetKind
from orchestrator.methods.feature_kind import FeatureKind


@FeatureKind.family.register
class DigitsCnn(FeatureKind):
    """Classifier of digits: 64 features of 8x8 gray images."""

    features: Literal["digits-cnn-v1"] = "digits-cnn-v1"

    @classmethod
    def suits(cls, data: DatasetKind) -> bool:
        return data.name == cls.shipped_for()
