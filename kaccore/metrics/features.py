"""Features for FID and related metrics: their names, and which ones suit a data set. `extractors`
computes them.

    digits-cnn-v1        8x8 gray     64 features   a small classifier's last hidden layer; weights shipped
    mnist-cnn-v1         28x28 gray   64 features   likewise
    digits-resnet-v1     8x8 gray     64 features   a second classifier of another architecture, seed, share of the
                                                    images and augmentation: no training ever sees it
    mnist-resnet-v1      28x28 gray   64 features   likewise
    inception-v3-compat  any size   2048 features   torch-fidelity's Inception; weights of 95 MB from a file or the web
    dinov2-vit-l-14      any size   1024 features   FD-DINOv2 of arXiv 2306.04675; weights of 1.2 GB, likewise
    dinov2-vit-b-14, dinov2-vit-s-14                its smaller relatives: 768 and 384 features
    points               1x1, float    2 features   the coordinates of points in the plane themselves
    own                  one data set 64 features   a small network trained on the data set itself, see `own_features`;
                                                    in results its name is own-<8 digits of its key>

Numbers compare only with others on the same features, so this name accompanies every number."""

from __future__ import annotations

import difflib
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ASSETS = Path(__file__).parent / "assets"
INCEPTION = "inception-v3-compat"
POINTS = "points"
OWN = "own"
# name -> number of features
DINOV2 = {"dinov2-vit-s-14": 384, "dinov2-vit-b-14": 768, "dinov2-vit-l-14": 1024}


@dataclass(frozen=True)
class FeatureSpec:
    """Inputs and outputs of an extractor: images of `channels` and `size` (None: any), `width`
    features and `classes` logits. `data`: the only data set that it suits, None: any.

    `file`: the file of its shipped weights in this package; empty: none is shipped. `strides`: of
    its convolutions. `second`: a check of the numbers of another extractor of the same data."""

    name: str
    channels: int
    size: int | None
    width: int
    classes: int
    data: str | None = None
    file: str = ""
    strides: tuple[int, ...] = ()
    second: bool = False


FEATURE_SPECS = (
    FeatureSpec(
        "digits-cnn-v1", 1, 8, 64, 10, "digits", "digits_classifier.safetensors", (1, 2, 1)
    ),
    FeatureSpec("mnist-cnn-v1", 1, 28, 64, 10, "mnist", "mnist_classifier.safetensors", (2, 2, 2)),
    FeatureSpec(
        "digits-resnet-v1", 1, 8, 64, 10, "digits", "digits_resnet.safetensors", (1, 1, 2), True
    ),
    FeatureSpec(
        "mnist-resnet-v1", 1, 28, 64, 10, "mnist", "mnist_resnet.safetensors", (2, 2, 2), True
    ),
    FeatureSpec(INCEPTION, channels=3, size=None, width=2048, classes=1008),
    *(FeatureSpec(name, 3, None, width=width, classes=0) for name, width in DINOV2.items()),
    FeatureSpec(POINTS, channels=2, size=1, width=2, classes=0, data="grid9"),
)
FEATURES = {spec.name: spec for spec in FEATURE_SPECS}
BUILDERS: dict[str, Callable[[], Any]] = {}  # what makes extractors that others have added


def add(spec: FeatureSpec, build: Callable[[], Any]) -> None:
    """Add an extractor of one's own, called `spec.name`. `build()` is a network on the CPU: uint8
    images (N, C, H, W) -> (features (N, width), logits (N, classes)). Raises ValueError for a name
    that this package uses itself."""
    if spec.name in FEATURES and spec.name not in BUILDERS:
        raise ValueError(f"features {spec.name!r} exist already: choose another name")
    FEATURES[spec.name] = spec
    BUILDERS[spec.name] = build


AUTO_FEATURES = {spec.data: spec.name for spec in FEATURE_SPECS if spec.data and not spec.second}
# data set -> the second classifier that checks the numbers of the first
SECOND_FEATURES = {spec.data: spec.name for spec in FEATURE_SPECS if spec.data and spec.second}
# the classifiers whose weights are in this package
SHIPPED_FEATURES = tuple(spec.name for spec in FEATURE_SPECS if spec.file)


@dataclass(frozen=True)
class OfficialWeights:
    """The weights behind published numbers on these features: the file's address and hash."""

    url: str
    sha256: str

    @property
    def path(self) -> Path:
        """The file in torch.hub's cache, as `torch.hub.get_dir` gives it, without importing torch."""
        cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
        home = Path(os.environ.get("TORCH_HOME") or Path(cache, "torch")).expanduser()
        return home / "hub" / "checkpoints" / self.url.rsplit("/", 1)[-1]


_DINOV2_URL = "https://dl.fbaipublicfiles.com/dinov2/dinov2_vit{0}14/dinov2_vit{0}14_pretrain.pth"
OFFICIAL = {
    # The file that pytorch-fid and torch-fidelity publish, converted from TensorFlow's
    # inception-2015-12-05.
    INCEPTION: OfficialWeights(
        "https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/weights-inception-2015-12-05-6726825d.pth",
        "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2",
    ),
    # Meta publishes no hashes; these are from users of its files.
    "dinov2-vit-s-14": OfficialWeights(
        _DINOV2_URL.format("s"), "b938bf1bc15cd2ec0feacfe3a1bb553fe8ea9ca46a7e1d8d00217f29aef60cd9"
    ),
    "dinov2-vit-b-14": OfficialWeights(
        _DINOV2_URL.format("b"), "0b8b82f85de91b424aded121c7e1dcc2b7bc6d0adeea651bf73a13307fad8c73"
    ),
    "dinov2-vit-l-14": OfficialWeights(
        _DINOV2_URL.format("l"), "d5383ea8f4877b2472eb973e0fd72d557c7da5d3611bd527ceeb1d7162cbf428"
    ),
}
INCEPTION_SHA256 = OFFICIAL[INCEPTION].sha256


OWN_LEAST_IMAGES = 20  # a data set needs at least so many for features of its own


@dataclass(frozen=True)
class OwnTraining:
    """How a data set's own network is trained. At most `steps` steps, fewer for large images, so
    that it takes a minute or two on one core; each of `batch` images, or views (two for each
    image). `held_out` is a share of the images, but at most `held_out_most` of them; `shift` is a
    share of the image size."""

    steps: int = 600
    batch: int = 64
    lr: float = 2e-3
    weight_decay: float = 1e-3
    held_out: float = 0.2
    held_out_most: int = 2000
    shift: float = 0.08
    temperature: float = 0.2
    seed: int = 0

    def steps_for(self, size: int) -> int:
        """Steps for images of `size` pixels a side: fewer for large images, whose steps cost more."""
        return max(self.steps // 6, int(self.steps * min(1.0, 32 / size)))


def classifier_weights(features: str) -> Path:
    """The file of the shipped weights of the classifier `features`, trained by
    `kaccore.metrics.assets.make_classifiers`."""
    return ASSETS / FEATURES[features].file


def own_name(key: str) -> str:
    """The name of a data set's own network in results: `own-` and the first 8 digits of its key."""
    return f"{OWN}-{key[:8]}"


def is_own(features: str) -> bool:
    """Whether `features` is the name of a data set's own network."""
    return features.startswith(f"{OWN}-")


def feature_spec(features: str) -> FeatureSpec:
    """The spec of the extractor `features`, other than a data set's own network, for which see
    `extractors.spec_of`. Raises ValueError for an unknown name, with the valid ones."""
    if features not in FEATURES:
        near = difflib.get_close_matches(features, FEATURES, n=1, cutoff=0.4)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ValueError(
            f"unknown features {features!r}; valid names: auto, {OWN}, {', '.join(FEATURES)}{hint}"
        )
    return FEATURES[features]


def features_for(
    data_name: str,
    requested: str = "auto",
    weights: str | Path | None = None,
    points: bool = False,
) -> str:
    """The extractor for a data set. `auto`: its shipped classifier if there is one (digits, mnist),
    the coordinates of points (grid9), else Inception if its weights are available (given, or
    downloaded before), else `own`: a network trained on the data set itself. Nothing is downloaded.
    `points`: whether a data set that is not this package's is points in the plane.

    Raises ValueError for an unknown name, for another data set's classifier, for features of images
    on points and vice versa, and for weights that the extractor would not use."""
    points = points or AUTO_FEATURES.get(data_name) == POINTS
    name = requested
    if requested == "auto":
        name = POINTS if points else _auto_features(data_name, weights)
    spec = None if name == OWN else feature_spec(name)
    if spec is not None and spec.data not in (None, data_name) and not (points and name == POINTS):
        raise ValueError(
            f"features {name!r} are for {spec.data} only, but the data set is {data_name!r}; use auto"
        )
    if points and name != POINTS:
        raise ValueError(
            f"features {name!r} are for images, but the data set {data_name!r} is points; use auto"
        )
    if weights is not None and name not in OFFICIAL:
        raise ValueError(
            f"weights {str(weights)!r} belong to {INCEPTION} or to a dinov2, but the features are {name!r}; drop one"
        )
    return name


def second_for(
    data_name: str, features: str, requested: str | None = "auto", points: bool = False
) -> str | None:
    """The extractor that checks the numbers of `features` on a data set; None: there is none.
    `auto`: the second classifier that is shipped for the data set (digits, mnist), if `features` is
    another.

    Raises ValueError for the same extractor twice, an unknown name and another data set's."""
    if requested == "auto":
        second = SECOND_FEATURES.get(data_name)
        return None if second == features else second
    if requested is None:
        return None
    if requested == features:
        raise ValueError(
            f"the second features are {features!r} as the first: choose another or auto"
        )
    return features_for(data_name, requested, points=points)


def _auto_features(data_name: str, weights: str | Path | None) -> str:
    if data_name in AUTO_FEATURES:
        return AUTO_FEATURES[data_name]
    has_weights = weights is not None or OFFICIAL[INCEPTION].path.exists()
    return INCEPTION if has_weights else OWN


def feature_label(features: str, weights_sha256: str | None = None) -> str:
    """The name of features in results: `features`, with the weights' hash unless they are the
    official ones."""
    official = OFFICIAL.get(features)
    if official is None or weights_sha256 is None or weights_sha256.lower() == official.sha256:
        return features
    return f"{features}@{weights_sha256.lower()[:8]}"


def check_hash(path: str | Path, got: str, sha256: str | None, features: str) -> None:
    """Raise ValueError, with the remedy, unless `got`, the hash of the file at `path`, equals
    `sha256`, by default that of the official weights of `features`."""
    official = OFFICIAL[features]
    expected = (sha256 or official.sha256).lower()
    if got == expected:
        return
    owner = next((name for name, weights in OFFICIAL.items() if weights.sha256 == got), None)
    if owner is not None and owner != features:
        remedy = f"these are the weights of {owner}: give that name as `features`"
    elif sha256 is not None:
        remedy = "correct `weights_sha256`"
    elif Path(path) == official.path:
        remedy = "remove it, as it is incomplete or another file"
    else:
        remedy = "if you trust this file, give its hash as `weights_sha256`"
    raise ValueError(
        f"the weights of {features} {str(path)!r} have sha256 {got}, expected {expected}; "
        f"{remedy}, or fetch the official file from {official.url}"
    )


OWN_ONLY = "own features: numbers compare within this data set alone"


def standard_number(where: str = "weights") -> str:
    """How to get numbers that compare with published ones; `where` is the setting for the path of
    the weights."""
    official = OFFICIAL[INCEPTION]
    return f"for the standard FID download {official.url} and give its path as {where}, or put it at {official.path}"
