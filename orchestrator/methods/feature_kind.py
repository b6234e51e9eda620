"""The interface of every kind of feature extractor. kaccore computes the features."""

from abc import abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from orchestrator.fields.kind import Family, Kind
from orchestrator.methods.dataset_kind import DatasetKind

if TYPE_CHECKING:
    from torch import nn

    from kaccore.metrics.features import FeatureSpec

F = TypeVar("F", bound="type[FeatureKind]")


class FeatureKind(Kind):
    """A feature extractor, named by `evaluation.features`.

    `tells_classes`: whether it returns logits of classes, which the inception score needs."""

    family: ClassVar["Family[FeatureKind]"]
    tells_classes: ClassVar[bool] = True

    features: str

    @classmethod
    def suits(cls, data: DatasetKind) -> bool:
        """Whether it takes the samples of this data set."""
        return not data.facts.points

    @classmethod
    def shipped_for(cls) -> str | None:
        """The only data set that it is for; None: it is for any data set."""
        from kaccore.metrics.features import FEATURES

        spec = FEATURES.get(cls.name_of())
        return None if spec is None else spec.data

    @classmethod
    def takes_weights(cls) -> bool:
        """Whether its weights may be given as a file."""
        from kaccore.metrics.features import OFFICIAL

        return cls.name_of() in OFFICIAL


class ShippedClassifier(FeatureKind):
    """A classifier whose weights are in kaccore, for the one data set that it was trained on."""

    @classmethod
    def suits(cls, data: DatasetKind) -> bool:
        return data.name == cls.shipped_for()


class PluginFeatureKind(FeatureKind):
    """A feature extractor of a plugin: `spec` describes its inputs and outputs, `build` makes the
    network."""

    spec: "ClassVar[FeatureSpec]"

    @classmethod
    @abstractmethod
    def build(cls) -> "nn.Module":
        """uint8 images (N, C, H, W) -> (features (N, width), logits (N, classes)), on the CPU."""

    @classmethod
    def missing(cls) -> list[str]:
        return [*super().missing(), *([] if hasattr(cls, "spec") else ["spec"])]


class Features(Family[FeatureKind]):
    """The feature extractors by name."""

    def register(self, kind: Any) -> Any:
        super().register(kind)
        if issubclass(kind, PluginFeatureKind):
            from kaccore.metrics.features import add

            add(kind.spec, kind.build)
        return kind


FeatureKind.family = Features("evaluation", "features")
