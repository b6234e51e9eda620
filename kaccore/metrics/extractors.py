"""Feature extractors: shipped classifiers, torch-fidelity's Inception, DINOv2, a data set's own
network, the coordinates of points.

Importing torch-fidelity imports torchvision and torch's compiler, which takes 1.3 s. So only
Inception imports it. `register_with_torch_fidelity` makes the shipped classifiers known to its own
functions."""

from __future__ import annotations

import hashlib
import io
import pickle
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from kaccore.data import from_uint8
from kaccore.metrics.dinov2 import DinoFeatures
from kaccore.metrics.features import (
    BUILDERS,
    DINOV2,
    FEATURES,
    INCEPTION,
    OFFICIAL,
    POINTS,
    SHIPPED_FEATURES,
    FeatureSpec,
    check_hash,
    classifier_weights,
    feature_spec,
    is_own,
)
from kaccore.metrics.own_features import load_own, read_facts


class SmallClassifier(nn.Module):
    """(N, 1, H, H) float in [-1, 1] -> (features (N, 64), logits (N, 10)). 31,674 parameters.

    Three convolutions reduce H = 8 or 28 to 4x4. With SiLU the features are smooth functions of the
    pixels; without batch norm an image's features depend on that image alone."""

    def __init__(self, strides: tuple[int, ...]) -> None:
        super().__init__()
        widths = (1, 16, 32, 48)
        convolutions = [
            nn.Sequential(
                nn.Conv2d(widths[i], widths[i + 1], 3, stride=strides[i], padding=1), nn.SiLU()
            )
            for i in range(3)
        ]
        self.body = nn.Sequential(*convolutions, nn.AvgPool2d(2), nn.Flatten())
        self.hidden = nn.Sequential(nn.Linear(widths[-1] * 4, 64), nn.SiLU())
        self.dropout = nn.Dropout(0.1)
        self.head = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        features = self.hidden(self.body(x))
        return features, self.head(self.dropout(features))


class ResidualClassifier(nn.Module):
    """(N, 1, H, H) float in [-1, 1] -> (features (N, 64), logits (N, 10)). 50,082 parameters.

    Residual blocks with ReLU, and the mean over all positions: as little as possible in common with
    `SmallClassifier`, whose numbers it checks. Without a normalisation it sees an image's contrast."""

    def __init__(self, strides: tuple[int, ...]) -> None:
        super().__init__()
        widths = (16, 24, 48)
        self.stem = nn.Conv2d(1, widths[0], 3, stride=strides[0], padding=1)
        blocks = [
            ResidualBlock(widths[max(0, i - 1)], widths[i], strides[i] if i else 1)
            for i in range(3)
        ]
        self.blocks = nn.Sequential(*blocks)
        self.features = nn.Sequential(nn.Linear(widths[-1], 64), nn.ReLU())
        self.dropout = nn.Dropout(0.1)
        self.head = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        features = self.features(self.blocks(self.stem(x)).relu().mean((2, 3)))
        return features, self.head(self.dropout(features))


class ResidualBlock(nn.Module):
    """(N, C, H, W) -> (N, `channels`, H / stride, W / stride)."""

    def __init__(self, inputs: int, channels: int, stride: int) -> None:
        super().__init__()
        self.way = nn.Sequential(
            nn.ReLU(),
            nn.Conv2d(inputs, channels, 3, stride=stride, padding=1),
            nn.ReLU(),
            nn.Conv2d(channels, channels, 3, padding=1),
        )
        self.shortcut: nn.Module = nn.Identity()
        if inputs != channels or stride > 1:
            self.shortcut = nn.Conv2d(inputs, channels, 1, stride=stride)

    def forward(self, x: Tensor) -> Tensor:
        skipped: Tensor = self.shortcut(x)
        return skipped + self.way(x)


def classifier(spec: FeatureSpec) -> nn.Module:
    """The untrained network of a shipped classifier."""
    kind = ResidualClassifier if spec.second else SmallClassifier
    return kind(spec.strides)


class ClassifierFeatures(nn.Module):
    """A shipped classifier: uint8 (N, 1, H, H) -> (features, logits)."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.spec = FEATURES[name]
        self.classifier = classifier(self.spec)
        self.classifier.load_state_dict(load_file(classifier_weights(name)))
        self.requires_grad_(False)
        self.eval()

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        check_images(images, self.spec)
        features, logits = self.classifier(from_uint8(images))
        return features, logits


class Coordinates(nn.Module):
    """Points (N, 2, 1, 1) float -> (their coordinates (N, 2), no logits (N, 0))."""

    def forward(self, points: Tensor) -> tuple[Tensor, Tensor]:
        return points.flatten(1), points.new_empty(len(points), 0)


def register_with_torch_fidelity() -> None:
    """Make the shipped classifiers known to torch-fidelity, whose functions then take their names,
    such as `calculate_metrics(feature_extractor="digits-cnn-v1", ...)`."""
    from torch_fidelity.feature_extractor_base import FeatureExtractorBase
    from torch_fidelity.registry import FEATURE_EXTRACTORS_REGISTRY, register_feature_extractor

    class Registered(FeatureExtractorBase):
        def __init__(self, name: str, features_list: list[str], **options: Any) -> None:
            super().__init__(name, features_list)
            self.classifier = ClassifierFeatures(name)

        @staticmethod
        def get_provided_features_list() -> tuple[str, ...]:
            return "features", "logits"

        @staticmethod
        def get_default_feature_layer_for_metric(metric: str) -> str:
            return "logits" if metric == "isc" else "features"

        @staticmethod
        def can_be_compiled() -> bool:
            return False

        @staticmethod
        def get_dummy_input_for_compile() -> Tensor:
            return torch.zeros(1, 1, 8, 8, dtype=torch.uint8)

        def forward(self, images: Tensor) -> tuple[Tensor, ...]:
            outputs = dict(zip(("features", "logits"), self.classifier(images), strict=True))
            return tuple(outputs[layer] for layer in self.features_list)

    for name in SHIPPED_FEATURES:
        if name not in FEATURE_EXTRACTORS_REGISTRY:
            register_feature_extractor(name, Registered)


def read_weights(path: str | Path, sha256: str | None = None, features: str = INCEPTION) -> bytes:
    """The content of a file with the weights of `features` (Inception or a DINOv2), after checking
    its hash against `sha256`, or else the official one.

    Weights are pickled, and torch-fidelity unpickles Inception's in a way that runs any code in
    them. So the hash is checked first, and the checked bytes themselves are returned for loading.
    Raises ValueError for a missing file or another hash."""
    content = _read_file(path, features)
    check_hash(path, hashlib.sha256(content).hexdigest(), sha256, features)
    return content


def _read_file(path: str | Path, features: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise ValueError(
            f"cannot read the weights of {features} {str(path)!r}: {error.strerror or error}"
        ) from error


def fetch_official_weights(features: str = INCEPTION) -> Path:
    """The file of the official weights of `features` in torch.hub's cache; downloads it if it is
    missing.

    Raises RuntimeError, with the remedy, if the download fails.
    """
    official = OFFICIAL[features]
    if official.path.exists():
        return official.path
    try:
        official.path.parent.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(
            official.url, str(official.path), hash_prefix=official.sha256, progress=False
        )
    except (OSError, RuntimeError) as error:
        raise RuntimeError(
            f"could not download the weights of {features} ({error}); fetch {official.url} on a machine with "
            f"internet access, then put it at {official.path}, or give its path as `weights`"
        ) from error
    return official.path


def spec_of(features: str, weights: str | Path | None = None) -> FeatureSpec:
    """The spec of the extractor `features`; for a data set's own network it is read from its file
    `weights`.

    Raises ValueError for an unknown name, with the valid ones, and for a file that is not that
    network's."""
    return read_facts(weights, features).spec if is_own(features) else feature_spec(features)


@lru_cache(maxsize=4)
def extractor(
    features: str,
    device: str = "cpu",
    weights: str | None = None,
    weights_sha256: str | None = None,
) -> nn.Module:
    """The extractor `features` on `device`, uint8 images -> (features, logits); the last four are
    cached in the process. Inception is torch-fidelity's extractor.

    `weights`, `weights_sha256`: for Inception and DINOv2, see `read_weights`; or the file of a data
    set's own network. Raises ValueError, and RuntimeError for a failed download."""
    spec_of(features, weights)
    if is_own(features):
        assert weights is not None, "its spec was read from them"
        return load_own(weights, features).to(device)
    if weights is not None and features not in OFFICIAL:
        raise ValueError(
            f"weights {weights!r} belong to {INCEPTION} or a dinov2, but the features are {features!r}; drop one"
        )
    if features == POINTS:
        return Coordinates()
    if features in BUILDERS:
        made: nn.Module = BUILDERS[features]()
        return made.eval().requires_grad_(False).to(device)
    if features in OFFICIAL:
        path = weights or fetch_official_weights(features)
        content = read_weights(path, weights_sha256 if weights else None, features)
        return _with_weights(features, content, weights).to(device)
    return ClassifierFeatures(features).to(device)


def _with_weights(features: str, content: bytes, weights: str | None) -> nn.Module:
    """Inception or a DINOv2 with the weights `content`, read from the file `weights` (None: the
    official one)."""
    try:
        if features not in DINOV2:
            return _inception(content)
        dino = DinoFeatures(features)
        state = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
        dino.model.load_state_dict(state)
        return dino
    except (
        pickle.UnpicklingError,
        EOFError,
        KeyError,
        TypeError,
        AttributeError,
        RuntimeError,
    ) as error:
        if weights is None:
            raise
        raise ValueError(
            f"{weights!r} does not hold a state dict of {features}: {str(error)[:200]}"
        ) from error


def _inception(content: bytes) -> nn.Module:
    """torch-fidelity's Inception with the weights `content`."""
    from torch_fidelity.utils import create_feature_extractor

    layers = ["2048", "logits_unbiased"]  # of FID, and of the Inception Score
    network: nn.Module = create_feature_extractor(
        INCEPTION,
        layers,
        cuda=False,
        verbose=False,
        feature_extractor_weights_path=io.BytesIO(content),
    )
    return network


def check_images(images: Tensor, spec: FeatureSpec) -> None:
    """Raise ValueError unless `images` is uint8 (N, C, H, W) as `spec` takes it. Gray images suit a
    colour extractor, except a data set's own. Points are float32 (N, 2, 1, 1)."""
    shape = tuple(images.shape)
    if spec.name == POINTS:
        if images.dtype != torch.float32 or shape[1:] != (2, 1, 1):
            raise ValueError(
                f"points of shape {shape} and {images.dtype}; expected float32 (N, 2, 1, 1)"
            )
        return
    if images.dtype != torch.uint8 or len(shape) != 4:
        raise ValueError(f"images of shape {shape} and {images.dtype}; expected uint8 (N, C, H, W)")
    channels = {spec.channels} if is_own(spec.name) else {1, spec.channels}
    if shape[1] not in channels or (spec.size and shape[2:] != (spec.size, spec.size)):
        takes = f"{spec.channels} channel(s)"
        if spec.size:
            takes += f" of {spec.size}x{spec.size}"
        raise ValueError(
            f"{spec.name} takes images with {takes}, got shape {shape}; {INCEPTION} takes any size"
        )
