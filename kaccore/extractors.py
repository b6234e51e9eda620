"""What computes features: shipped classifiers, torch-fidelity's Inception, the coordinates of points.

Our own are registered with torch-fidelity, so that its command line functions know them as well once this is imported.
"""

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
from torch_fidelity.feature_extractor_base import FeatureExtractorBase
from torch_fidelity.feature_extractor_inceptionv3 import URL_INCEPTION_V3
from torch_fidelity.registry import FEATURE_EXTRACTORS_REGISTRY, register_feature_extractor
from torch_fidelity.utils import create_feature_extractor

from kaccore.data import from_uint8
from kaccore.features import (
    FEATURES,
    INCEPTION,
    INCEPTION_SHA256,
    OWN_FEATURES,
    POINTS,
    check_images,
    classifier_weights,
    feature_spec,
)


class SmallClassifier(nn.Module):
    """(N, 1, H, H) float in [-1, 1] -> (features (N, 64), logits (N, 10)). 31,674 parameters.

    Three convolutions bring H = 8 or 28 down to 4x4. SiLU keeps the features smooth in the pixels, and there is
    no batch norm, so that an image's features depend on that image alone.
    """

    def __init__(self, strides: tuple[int, int, int]) -> None:
        super().__init__()
        widths = (1, 16, 32, 48)
        convolutions = [
            nn.Sequential(nn.Conv2d(widths[i], widths[i + 1], 3, stride=strides[i], padding=1), nn.SiLU())
            for i in range(3)
        ]
        self.body = nn.Sequential(*convolutions, nn.AvgPool2d(2), nn.Flatten())
        self.hidden = nn.Sequential(nn.Linear(widths[-1] * 4, 64), nn.SiLU())
        self.dropout = nn.Dropout(0.1)
        self.head = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        features = self.hidden(self.body(x))
        return features, self.head(self.dropout(features))


class ClassifierFeatures(FeatureExtractorBase):
    """torch-fidelity's view of a shipped classifier: uint8 (N, 1, H, H) -> the requested of `features`, `logits`."""

    def __init__(self, name: str, features_list: list[str], **kwargs: Any) -> None:
        super().__init__(name, features_list)
        self.spec = FEATURES[name]
        self.classifier = SmallClassifier(self.spec.strides)
        self.classifier.load_state_dict(load_file(classifier_weights(str(self.spec.data))))
        self.requires_grad_(False)
        self.eval()

    @staticmethod
    def get_provided_features_list() -> tuple[str, ...]:
        return "features", "logits"

    @staticmethod
    def get_default_feature_layer_for_metric(metric: str) -> str:
        return {"isc": "logits", "fid": "features", "kid": "features", "prc": "features"}[metric]

    @staticmethod
    def can_be_compiled() -> bool:
        return False

    @staticmethod
    def get_dummy_input_for_compile() -> Tensor:
        return torch.zeros(1, 1, 8, 8, dtype=torch.uint8)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        check_images(images, self.spec)
        features, logits = self.classifier(from_uint8(images))
        outputs = {"features": features, "logits": logits}
        return tuple(outputs[layer] for layer in self.features_list)


class Coordinates(nn.Module):
    """Points (N, 2, 1, 1) float -> (their coordinates (N, 2), no logits (N, 0))."""

    def forward(self, points: Tensor) -> tuple[Tensor, Tensor]:
        return points.flatten(1), points.new_empty(len(points), 0)


for _name in OWN_FEATURES.values():
    if _name not in FEATURE_EXTRACTORS_REGISTRY:  # registering twice, as a module reload would, is refused
        register_feature_extractor(_name, ClassifierFeatures)


def read_weights(path: str | Path, sha256: str | None = None) -> bytes:
    """The bytes of an Inception weights file, after checking their hash: against `sha256`, else the official one.

    torch-fidelity unpickles these weights, which runs whatever code is in them; hence the check comes first, and
    hence bytes: what was checked is what is loaded. Raises ValueError on a missing file or another hash.
    """
    expected = (sha256 or INCEPTION_SHA256).lower()
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise ValueError(f"cannot read the Inception weights {str(path)!r}: {error.strerror or error}") from error
    found = hashlib.sha256(content).hexdigest()
    if found != expected:
        raise ValueError(
            f"the Inception weights {str(path)!r} have sha256 {found}, expected {expected}; "
            + ("correct `weights_sha256`" if sha256 else "if you trust this file, give its hash as `weights_sha256`")
            + f", or fetch the official file from {URL_INCEPTION_V3}"
        )
    return content


def fetch_official_weights() -> Path:
    """Where torch-fidelity would keep its Inception weights, downloaded if they are not there yet.

    Raises RuntimeError, with the remedy, where the download fails.
    """
    path = Path(torch.hub.get_dir()) / "checkpoints" / URL_INCEPTION_V3.rsplit("/", 1)[-1]
    if path.exists():
        return path
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(URL_INCEPTION_V3, str(path), hash_prefix=INCEPTION_SHA256, progress=False)
    except (OSError, RuntimeError) as error:
        raise RuntimeError(
            f"could not download the weights of {INCEPTION} ({error}); fetch {URL_INCEPTION_V3} on a machine with "
            f"internet access, then either put it at {path} or give its path as `weights`"
        ) from error
    return path


@lru_cache(maxsize=4)
def extractor(
    features: str, device: str = "cpu", weights: str | None = None, weights_sha256: str | None = None
) -> nn.Module:
    """torch-fidelity's extractor of that name on `device`, uint8 images -> (features, logits); kept for the life of the
    process. That of points is not torch-fidelity's.

    `weights`, `weights_sha256`: for Inception only, see `read_weights`. Raises ValueError, RuntimeError on a failed
    download.
    """
    feature_spec(features)
    kwargs: dict[str, Any] = {"verbose": False}
    if features == INCEPTION:
        content = read_weights(weights or fetch_official_weights(), weights_sha256 if weights else None)
        kwargs["feature_extractor_weights_path"] = io.BytesIO(content)
    elif weights is not None:
        raise ValueError(f"weights {weights!r} belong to {INCEPTION}, but the features are {features!r}; drop one")
    if features == POINTS:
        return Coordinates()
    layers = [FEATURE_EXTRACTORS_REGISTRY[features].get_default_feature_layer_for_metric(m) for m in ("fid", "isc")]
    try:
        made = create_feature_extractor(features, layers, cuda=False, **kwargs)
    except (pickle.UnpicklingError, EOFError, KeyError, TypeError, RuntimeError) as error:
        if weights is None:
            raise
        raise ValueError(f"{weights!r} does not hold a state dict of {INCEPTION}: {str(error)[:200]}") from error
    return made.to(device)
