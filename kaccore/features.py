"""Features for FID and its kin: which ones suit a data set; `extractors` makes what computes them.

    digits-cnn-v1        8x8 gray     64 features   a small classifier's last hidden layer; weights shipped
    mnist-cnn-v1         28x28 gray   64 features   likewise
    inception-v3-compat  any size   2048 features   torch-fidelity's Inception; weights of 95 MB from a file or the web
    points               1x1, float    2 features   the coordinates of points in the plane themselves

A number is only comparable with others of the same features, so this name travels with every number.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # which features suit a data set is also asked where torch is not needed
    from torch import Tensor

ASSETS = Path(__file__).parent / "assets"
INCEPTION, POINTS = "inception-v3-compat", "points"
# The file that pytorch-fid and torch-fidelity publish, converted from TensorFlow's inception-2015-12-05.
INCEPTION_SHA256 = "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2"


@dataclass(frozen=True)
class FeatureSpec:
    """What an extractor takes and gives: `width` features and `classes` logits. `size` None: any; `data`: the data set
    it alone suits."""

    name: str
    channels: int
    size: int | None
    width: int
    classes: int
    data: str | None = None
    strides: tuple[int, int, int] = (1, 1, 1)


FEATURES = {
    spec.name: spec
    for spec in (
        FeatureSpec("digits-cnn-v1", channels=1, size=8, width=64, classes=10, data="digits", strides=(1, 2, 1)),
        FeatureSpec("mnist-cnn-v1", channels=1, size=28, width=64, classes=10, data="mnist", strides=(2, 2, 2)),
        FeatureSpec(INCEPTION, channels=3, size=None, width=2048, classes=1008),
        FeatureSpec(POINTS, channels=2, size=1, width=2, classes=0, data="grid9"),
    )
}
AUTO_FEATURES = {spec.data: spec.name for spec in FEATURES.values() if spec.data}
OWN_FEATURES = {data: name for data, name in AUTO_FEATURES.items() if name != POINTS}  # those of shipped classifiers


def classifier_weights(data_name: str) -> Path:
    """The shipped weights of the classifier of `data_name`, made by `python -m kaccore.assets.make_classifiers`."""
    return ASSETS / f"{data_name}_classifier.safetensors"


def check_images(images: Tensor, spec: FeatureSpec) -> None:
    """Raises ValueError unless `images` is uint8 (N, C, H, W) as `spec` takes it; gray suits a colour extractor.
    Points are float32 (N, 2, 1, 1)."""
    import torch

    shape = tuple(images.shape)
    if spec.name == POINTS:
        if images.dtype != torch.float32 or shape[1:] != (2, 1, 1):
            raise ValueError(f"points of shape {shape} and {images.dtype}; expected float32 (N, 2, 1, 1)")
        return
    if images.dtype != torch.uint8 or len(shape) != 4:
        raise ValueError(f"images of shape {shape} and {images.dtype}; expected uint8 (N, C, H, W)")
    if shape[1] not in (1, spec.channels) or (spec.size and shape[2:] != (spec.size, spec.size)):
        takes = f"{spec.channels} channel(s)" + (f" of {spec.size}x{spec.size}" if spec.size else "")
        raise ValueError(f"{spec.name} takes images with {takes}, got shape {shape}; {INCEPTION} takes any size")


def feature_spec(features: str) -> FeatureSpec:
    """The spec of the extractor called `features`; ValueError, with the valid names, for an unknown one."""
    if features not in FEATURES:
        near = difflib.get_close_matches(features, FEATURES, n=1, cutoff=0.4)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"unknown features {features!r}; valid names: auto, {', '.join(FEATURES)}{hint}")
    return FEATURES[features]


def features_for(data_name: str, requested: str = "auto", weights: str | Path | None = None) -> str:
    """The extractor for a data set. `auto`: its own classifier if there is one (digits, mnist), the coordinates of
    points (grid9), else Inception.

    Raises ValueError for an unknown name, for another data set's classifier, for images' features of points and the
    other way round, and for Inception weights that the extractor would not use.
    """
    name = AUTO_FEATURES.get(data_name, INCEPTION) if requested == "auto" else requested
    spec = feature_spec(name)
    if spec.data not in (None, data_name):
        raise ValueError(f"features {name!r} know {spec.data} only, the data set is {data_name!r}; use auto")
    if AUTO_FEATURES.get(data_name) == POINTS != name:
        raise ValueError(f"features {name!r} are of images, the data set {data_name!r} is points; use auto")
    if weights is not None and name != INCEPTION:
        raise ValueError(f"weights {str(weights)!r} belong to {INCEPTION}, but the features are {name!r}; drop one")
    return name


def feature_label(features: str, weights_sha256: str | None = None) -> str:
    """The name under which numbers are published: `features`, with the weights' hash if they are not the official."""
    if features != INCEPTION or weights_sha256 is None or weights_sha256.lower() == INCEPTION_SHA256:
        return features
    return f"{features}@{weights_sha256.lower()[:8]}"
