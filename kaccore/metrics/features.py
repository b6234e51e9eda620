"""Features for FID and its kin: which ones suit a data set; `extractors` makes what computes them.

    digits-cnn-v1        8x8 gray     64 features   a small classifier's last hidden layer; weights shipped
    mnist-cnn-v1         28x28 gray   64 features   likewise
    inception-v3-compat  any size   2048 features   torch-fidelity's Inception; weights of 95 MB from a file or the web
    dinov2-vit-l-14      any size   1024 features   FD-DINOv2 of arXiv 2306.04675; weights of 1.2 GB, likewise
    dinov2-vit-b-14, dinov2-vit-s-14                its smaller relatives: 768 and 384 features
    points               1x1, float    2 features   the coordinates of points in the plane themselves
    own                  one data set 64 features   a small network trained on the data set itself, see `own_features`;
                                                    the name that its numbers carry is own-<8 digits of its key>

A number is only comparable with others of the same features, so this name travels with every
number."""

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
DINOV2 = {
    "dinov2-vit-s-14": 384,
    "dinov2-vit-b-14": 768,
    "dinov2-vit-l-14": 1024,
}  # and their widths


@dataclass(frozen=True)
class FeatureSpec:
    """What an extractor takes and gives: `width` features and `classes` logits. `size` None: any;
    `data`: the data set it alone suits."""

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
        FeatureSpec(
            "digits-cnn-v1",
            channels=1,
            size=8,
            width=64,
            classes=10,
            data="digits",
            strides=(1, 2, 1),
        ),
        FeatureSpec(
            "mnist-cnn-v1",
            channels=1,
            size=28,
            width=64,
            classes=10,
            data="mnist",
            strides=(2, 2, 2),
        ),
        FeatureSpec(INCEPTION, channels=3, size=None, width=2048, classes=1008),
        *(
            FeatureSpec(name, channels=3, size=None, width=width, classes=0)
            for name, width in DINOV2.items()
        ),
        FeatureSpec(POINTS, channels=2, size=1, width=2, classes=0, data="grid9"),
    )
}
BUILDERS: dict[str, Callable[[], Any]] = {}  # what makes extractors that others have added


def add(spec: FeatureSpec, build: Callable[[], Any]) -> None:
    """Add an extractor of one's own, called `spec.name`. `build()` is a network on the CPU: uint8
    images (N, C, H, W) -> (features (N, width), logits (N, classes)). Raises ValueError for a name
    that is this package's."""
    if spec.name in FEATURES and spec.name not in BUILDERS:
        raise ValueError(f"features {spec.name!r} are there already: choose another name")
    FEATURES[spec.name] = spec
    BUILDERS[spec.name] = build


AUTO_FEATURES = {spec.data: spec.name for spec in FEATURES.values() if spec.data}
SHIPPED_FEATURES = {
    data: name for data, name in AUTO_FEATURES.items() if name != POINTS
}  # of shipped classifiers


@dataclass(frozen=True)
class OfficialWeights:
    """The weights that a published number of these features means: where they are, and the file's
    hash."""

    url: str
    sha256: str

    @property
    def path(self) -> Path:
        """Where torch.hub keeps the file once it is fetched, as `torch.hub.get_dir` says; asked
        without torch."""
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
    # Meta publishes no hashes; these are what the users of its files have noted.
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


OWN_LEAST_IMAGES = 20  # that a data set has for features of its own


@dataclass(frozen=True)
class OwnTraining:
    """How a data set's own network is trained: at most `steps` steps, fewer of large images, so
    that it takes a minute or two on a core. A step takes `batch` images or views, two views an
    image. `held_out` is a share of the images, of which no more than `held_out_most` are taken;
    `shift` a share of the size."""

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
        """Steps for images of `size` pixels a side: those of large images cost more, and are
        fewer."""
        return max(self.steps // 6, int(self.steps * min(1.0, 32 / size)))


def classifier_weights(data_name: str) -> Path:
    """The shipped weights of the classifier of `data_name`, made by
    `kaccore.metrics.assets.make_classifiers`."""
    return ASSETS / f"{data_name}_classifier.safetensors"


def own_name(key: str) -> str:
    """The name that numbers of a data set's own network carry: `own-` and the first 8 digits of the
    network's key."""
    return f"{OWN}-{key[:8]}"


def is_own(features: str) -> bool:
    """Whether this is the name of a data set's own network."""
    return features.startswith(f"{OWN}-")


def feature_spec(features: str) -> FeatureSpec:
    """The spec of the extractor called `features`, which is none of a data set's own: see
    `extractors.spec_of`. Raises ValueError, with the valid names, for an unknown one."""
    if features not in FEATURES:
        near = difflib.get_close_matches(features, FEATURES, n=1, cutoff=0.4)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ValueError(
            f"unknown features {features!r}; valid names: auto, {OWN}, {', '.join(FEATURES)}{hint}"
        )
    return FEATURES[features]


def features_for(data_name: str, requested: str = "auto", weights: str | Path | None = None) -> str:
    """The extractor for a data set. `auto`: its shipped classifier if there is one (digits, mnist),
    the coordinates of points (grid9), else Inception where its weights are at hand (given, or
    fetched once before), else `own`: a network trained on the data set itself. Nothing is
    downloaded, nor asked for.

    Raises ValueError for an unknown name, for another data set's classifier, for images' features
    of points and the other way round, and for weights that the extractor would not use."""
    name = _suitable(data_name, weights) if requested == "auto" else requested
    spec = None if name == OWN else feature_spec(name)
    if spec is not None and spec.data not in (None, data_name):
        raise ValueError(
            f"features {name!r} know {spec.data} only, the data set is {data_name!r}; use auto"
        )
    if AUTO_FEATURES.get(data_name) == POINTS != name:
        raise ValueError(
            f"features {name!r} are of images, the data set {data_name!r} is points; use auto"
        )
    if weights is not None and name not in OFFICIAL:
        raise ValueError(
            f"weights {str(weights)!r} belong to {INCEPTION} or to a dinov2, but the features are {name!r}; drop one"
        )
    return name


def _suitable(data_name: str, weights: str | Path | None) -> str:
    if data_name in AUTO_FEATURES:
        return AUTO_FEATURES[data_name]
    return INCEPTION if weights is not None or OFFICIAL[INCEPTION].path.exists() else OWN


def feature_label(features: str, weights_sha256: str | None = None) -> str:
    """The name under which numbers are published: `features`, with the weights' hash if they are
    not the official."""
    official = OFFICIAL.get(features)
    if official is None or weights_sha256 is None or weights_sha256.lower() == official.sha256:
        return features
    return f"{features}@{weights_sha256.lower()[:8]}"


def check_hash(path: str | Path, found: str, sha256: str | None, features: str) -> None:
    """Raise ValueError, with the remedy, unless `found`, the hash of the file at `path`, is
    `sha256`, or without that the one of the official weights of `features`."""
    official = OFFICIAL[features]
    if found == (sha256 or official.sha256).lower():
        return
    theirs = next((name for name, each in OFFICIAL.items() if each.sha256 == found), None)
    if theirs is not None and theirs != features:
        remedy = f"these are the weights of {theirs}: give that name as `features`"
    elif sha256 is not None:
        remedy = "correct `weights_sha256`"
    elif Path(path) == official.path:
        remedy = "remove it, as it is incomplete or another's"
    else:
        remedy = "if you trust this file, give its hash as `weights_sha256`"
    raise ValueError(
        f"the weights of {features} {str(path)!r} have sha256 {found}, expected {(sha256 or official.sha256).lower()}; "
        f"{remedy}, or fetch the official file from {official.url}"
    )


OWN_ONLY = "own features: numbers compare within this data set alone"


def standard_number(where: str = "weights") -> str:
    """How to get numbers that compare with published ones, in words; `where` is what takes the path
    of a file."""
    official = OFFICIAL[INCEPTION]
    return f"for the standard FID fetch {official.url} and give its path as {where}, or put it at {official.path}"
