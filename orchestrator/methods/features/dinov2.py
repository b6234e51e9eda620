"""DINOv2, the features of FD-DINOv2 (arXiv 2306.04675)."""

from typing import ClassVar, Literal

from orchestrator.methods.feature_kind import FeatureKind


class DinoV2(FeatureKind):
    """DINOv2: the features of FD-DINOv2, of images of any size."""

    tells_classes: ClassVar[bool] = False


@FeatureKind.family.register
class DinoV2Small(DinoV2):
    """DINOv2 ViT-S/14: 384 features."""

    features: Literal["dinov2-vit-s-14"] = "dinov2-vit-s-14"


@FeatureKind.family.register
class DinoV2Base(DinoV2):
    """DINOv2 ViT-B/14: 768 features."""

    features: Literal["dinov2-vit-b-14"] = "dinov2-vit-b-14"


@FeatureKind.family.register
class DinoV2Large(DinoV2):
    """DINOv2 ViT-L/14: 1,024 features, those of FD-DINOv2."""

    features: Literal["dinov2-vit-l-14"] = "dinov2-vit-l-14"
