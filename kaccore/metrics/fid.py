"""FID, KID, precision and recall of generated images against a reference, and the Inception Score.
Precision, recall and the Inception Score are torch-fidelity's own functions. FID and KID repeat its
arithmetic to the last digit: importing it imports torchvision and torch's compiler, 1.3 s in every
process that measures.

images (uint8) -> `extract` -> features (N, D) -> `compare` with a `Reference` -> {"fid": ..., ...}

Images enter an extractor at their own size; Inception resizes them as in torch-fidelity. They may be
one tensor, an `ImageData` or batches of any size. With batches, only one batch of images is in memory
at a time, and for FID alone (`extract_statistics`, `Reference.build(keep_features=False)`) not even
all features are."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Generator, Tensor

from kaccore.data import ImageData
from kaccore.files import write_bytes
from kaccore.metrics.extractors import check_images, extractor, spec_of
from kaccore.metrics.features import feature_label, is_own
from kaccore.metrics.frechet import (
    FeatureStatistics,
    Moments,
    checked_features,
    frechet_distance,
    moments,
)
from kaccore.metrics.own_features import check_data

METRICS = ("fid", "kid", "precision", "recall", "inception_score")
KID_SUBSETS, KID_SUBSET_SIZE = 100, 1000  # torch-fidelity's defaults
NEIGHBOURS = (
    3  # precision and recall: the radius of an image's ball is its third neighbour's distance
)
SCORE_SPLITS = 10  # of the Inception Score; torch-fidelity's default

Images = Tensor | ImageData | Iterable[Tensor]  # uint8 (N, C, H, W), or batches of them


class Outputs(NamedTuple):
    """An extractor's outputs for images: `features` (N, D) and class `logits` (N, K), float32 on the
    CPU."""

    features: Tensor
    logits: Tensor


def extract(images_uint8: Images, features: str, **extraction: Any) -> Tensor:
    """Features of images, uint8 (N, C, H, W): float32 (N, D) on the CPU; arguments and errors as
    for `extract_batches`."""
    rows = [torch.empty(0, spec_of(features, extraction.get("weights")).width)]
    rows += [batch.features for batch in extract_batches(images_uint8, features, **extraction)]
    return torch.cat(rows)


def extract_with_logits(images_uint8: Images, features: str, **extraction: Any) -> Outputs:
    """Features and class logits of images in one pass; arguments and errors as for
    `extract_batches`."""
    spec = spec_of(features, extraction.get("weights"))
    batches = list(extract_batches(images_uint8, features, **extraction))
    return Outputs(
        torch.cat([torch.empty(0, spec.width), *(batch.features for batch in batches)]),
        torch.cat([torch.empty(0, spec.classes), *(batch.logits for batch in batches)]),
    )


def extract_statistics(images_uint8: Images, features: str, **extraction: Any) -> FeatureStatistics:
    """Mean and covariance of images' features, all that FID needs; arguments and errors as for
    `extract_batches`."""
    statistics = FeatureStatistics(spec_of(features, extraction.get("weights")).width)
    for batch in extract_batches(images_uint8, features, **extraction):
        statistics.update(batch.features)
    return statistics


@torch.no_grad()
def extract_batches(
    images_uint8: Images,
    features: str,
    *,
    batch_size: int = 256,
    device: str = "cpu",
    weights: str | Path | None = None,
    weights_sha256: str | None = None,
) -> Iterator[Outputs]:
    """Features and logits of images, uint8 (N, C, H, W), at most `batch_size` at a time.

    The results do not depend on `batch_size`. Gray images are repeated to three channels for an
    extractor of colour images. `weights`: a file with the weights of Inception or DINOv2, see
    `extractors.read_weights`, or of a data set's own network. Raises ValueError for unknown
    features, images that do not suit them or weights with another hash, RuntimeError if official
    weights cannot be downloaded."""
    spec = spec_of(features, weights)
    if batch_size < 1:
        raise ValueError(f"batch_size is {batch_size}; expected 1 or more")
    whole = images_uint8.images if isinstance(images_uint8, ImageData) else images_uint8
    parts = [whole] if isinstance(whole, Tensor) else whole
    model = None
    for part in parts:
        check_images(part, spec)
        model = model or extractor(
            features, str(device), str(weights) if weights is not None else None, weights_sha256
        )
        for batch in part.split(batch_size):
            # Repeated by batch, so that a gray data set need not be in memory three times.
            outputs = model(batch.to(device).expand(-1, spec.channels, -1, -1))
            yield Outputs(*(output.to("cpu", torch.float32) for output in outputs))


@dataclass(frozen=True, eq=False)
class Reference:
    """The features of the real images, computed once for a data set and saved.

    features    name of the extractor (with the weights' hash if they are not the official ones)
    matrix      (N, D) float32, the features: KID, precision and recall need them; (0, D) if not kept
    mean        (D,) float64
    covariance  (D, D) float64
    count       N, the number of real images
    """

    features: str
    matrix: Tensor
    mean: Tensor
    covariance: Tensor
    count: int

    @classmethod
    def build(
        cls,
        images_uint8: Images,
        features: str,
        *,
        keep_features: bool = True,
        weights_sha256: str | None = None,
        **extraction: Any,
    ) -> Reference:
        """The reference of images, uint8 (N, C, H, W); arguments and errors as for
        `extract_batches`, ValueError also for N < 2 and for another `ImageData` than that of own
        features. With `keep_features` False it has only the statistics, which suffice for FID and
        for no other metric."""
        if is_own(features) and isinstance(images_uint8, ImageData):
            check_data(images_uint8, features, extraction.get("weights"))
        extraction["weights_sha256"] = weights_sha256
        label = feature_label(features, weights_sha256)
        if keep_features:
            return cls.of_features(extract(images_uint8, features, **extraction), label)
        statistics = extract_statistics(images_uint8, features, **extraction)
        matrix = torch.empty(0, statistics.width)
        return cls(label, matrix, *statistics.statistics(), statistics.count)

    @classmethod
    def of_features(cls, matrix: Tensor, features: str) -> Reference:
        """The reference of a feature matrix (N, D). Raises ValueError for N < 2 or features that
        are not finite."""
        return cls(
            features, matrix.detach().to("cpu", torch.float32), *moments(matrix), len(matrix)
        )

    def save(self, path: str | Path) -> None:
        """Write a safetensors file with the extractor's name in its metadata. Equal references give
        equal bytes."""
        tensors = {"matrix": self.matrix, "mean": self.mean, "covariance": self.covariance}
        # the count is not in the metadata, which safetensors writes in a random order
        tensors["count"] = torch.tensor(self.count)
        tensors = {key: value.contiguous() for key, value in tensors.items()}
        # not save_file, which denies other users the file whatever the umask is
        write_bytes(Path(path), save(tensors, {"features": self.features}))

    @classmethod
    def load(cls, path: str | Path) -> Reference:
        """Read a file of `save`. Raises ValueError for any other file."""
        try:
            with safe_open(str(path), framework="pt") as file:
                features = (file.metadata() or {})["features"]
                tensors = {key: file.get_tensor(key) for key in ("matrix", "mean", "covariance")}
                return cls(features, **tensors, count=int(file.get_tensor("count")))
        except (OSError, KeyError, SafetensorError) as error:
            raise ValueError(
                f"{str(path)!r} is not a saved Reference ({error}); build it again"
            ) from error


def compare(
    fake_features: Tensor | FeatureStatistics,
    reference: Reference,
    metrics: Sequence[str] = ("fid",),
    seed: int = 0,
    logits: Tensor | None = None,
) -> dict[str, float]:
    """Metrics among `METRICS` of generated features (M, D) against a reference of the same
    extractor.

    fid               Frechet distance of the two Gaussians, Heusel et al. 2017 (biased up by few samples)
    kid               unbiased cubic MMD^2, mean over 100 random subsets, Binkowski et al. 2018; `seed` draws them.
                      `kid_std` is the spread over the subsets: zero if a subset has all images (M = N <= 1000).
                      KID may be negative near zero; a copy of the real images scores below zero
    precision, recall  share of fake images within a real one's neighbourhood, and vice versa, Kynkaanniemi et al. 2019
    inception_score   see `inception_score`: only of the generated images' `logits` (M, K)

    For `fid` statistics suffice instead of features. Raises ValueError for an unknown metric,
    another width, no logits, features not finite or not kept, or fewer than 2 samples (precision,
    recall 4, inception_score 10)."""
    unknown = [metric for metric in metrics if metric not in METRICS]
    if unknown:
        raise ValueError(
            f"unknown metrics {', '.join(map(repr, unknown))}; valid names: {', '.join(METRICS)}"
        )
    if isinstance(fake_features, FeatureStatistics):
        width = fake_features.width
    else:
        width = fake_features.shape[-1]
    if width != len(reference.mean):
        raise ValueError(
            f"generated features are {width} wide, the reference ({reference.features}) {len(reference.mean)}; "
            "extract both with the same features"
        )
    values = {}
    if "fid" in metrics:
        fake = _moments_of(fake_features)
        values["fid"] = frechet_distance(fake, Moments(reference.mean, reference.covariance))
    pairwise = [metric for metric in metrics if metric in ("kid", "precision", "recall")]
    if pairwise:
        values |= _pairwise(fake_features, reference.matrix, pairwise, seed)
    if "inception_score" in metrics:
        if logits is None:
            raise ValueError(
                "inception_score: needs the class logits of the generated images; use extract_with_logits"
            )
        values |= inception_score(logits, seed)
    return values


def _moments_of(features: Tensor | FeatureStatistics) -> Moments:
    if isinstance(features, FeatureStatistics):
        return features.statistics()
    return moments(features)


def inception_score(logits: Tensor, seed: int = 0) -> dict[str, float]:
    """exp of the mean KL divergence of each image's class probabilities from their mean, Salimans
    et al. 2016, from class `logits` (N, K): `inception_score` and `inception_score_std`, mean and
    spread over ten random splits.

    From 1 (the classifier cannot distinguish the images) to K. It does not use real images. It is
    the Inception Score only with Inception's logits; with another classifier it must be named by
    its features. A split of n images scores at most n, so few images bias it down. Raises ValueError
    for fewer than ten images, no classes or logits that are not finite."""
    if logits.dim() == 2 and logits.shape[1] < 2:
        raise ValueError(
            "inception_score: these features come without classes; use those of a classifier"
        )
    if logits.dim() != 2 or len(logits) < SCORE_SPLITS:
        raise ValueError(
            f"logits of shape {tuple(logits.shape)}; expected (N, K) of at least {SCORE_SPLITS} images"
        )
    from torch_fidelity.metric_isc import (
        KEY_METRIC_ISC_MEAN,
        KEY_METRIC_ISC_STD,
        isc_features_to_metric,
    )

    score = isc_features_to_metric(
        checked_features(logits), splits=SCORE_SPLITS, shuffle=True, rng_seed=seed
    )
    return {
        "inception_score": score[KEY_METRIC_ISC_MEAN],
        "inception_score_std": score[KEY_METRIC_ISC_STD],
    }


def split_halves_fid(
    data: ImageData, features: str, seed: int = 0, pairs: int = 10, **extraction: Any
) -> float:
    """FID between two random halves of the real images, mean over `pairs` splits.

    A baseline: a perfect model would score this with so few samples. Arguments and errors as for `extract`,
    ValueError for `pairs` < 1 and fewer than four images."""
    if pairs < 1:
        raise ValueError(f"pairs is {pairs}; expected 1 or more")
    matrix = extract(data.images, features, **extraction)
    generator = Generator().manual_seed(seed)
    half = len(matrix) // 2
    scores = []
    for _ in range(pairs):
        order = torch.randperm(len(matrix), generator=generator)
        scores.append(
            frechet_distance(moments(matrix[order[:half]]), moments(matrix[order[half : 2 * half]]))
        )
    return sum(scores) / pairs


def _pairwise(
    fake_features: Tensor | FeatureStatistics, real: Tensor, metrics: Sequence[str], seed: int
) -> dict[str, float]:
    """The metrics that compare pairs of images."""
    if isinstance(fake_features, FeatureStatistics) or not len(real):
        raise ValueError(
            f"{', '.join(metrics)}: needs the features themselves, but only statistics were kept"
        )
    # Single precision, as in torch-fidelity: KID takes half the time and agrees to 1e-5.
    values: dict[str, float] = {}
    fake = checked_features(fake_features).to(torch.float32)
    if "kid" in metrics:
        values["kid"], values["kid_std"] = _kernel_distance(fake.numpy(), real.numpy(), seed)
    if "precision" in metrics or "recall" in metrics:
        both = _precision_recall(fake, real)
        values |= {key: value for key, value in both.items() if key in metrics}
    return values


def _kernel_distance(
    fake: NDArray[np.float32], real: NDArray[np.float32], seed: int
) -> tuple[float, float]:
    """KID: mean and spread of the unbiased MMD^2 over random subsets."""
    size = min(KID_SUBSET_SIZE, len(fake), len(real))
    rng = np.random.RandomState(seed)
    found = np.zeros(KID_SUBSETS)
    for k in range(KID_SUBSETS):
        x = fake[rng.choice(len(fake), size, replace=False)]
        y = real[rng.choice(len(real), size, replace=False)]
        within = sum(_off_diagonal(_cubic(side, side)) for side in (x, y)) / (size * (size - 1))
        found[k] = within - 2 * _cubic(x, y).sum(axis=0).sum() / (size * size)
    return float(np.mean(found)), float(np.std(found))


def _cubic(x: NDArray[np.float32], y: NDArray[np.float32]) -> NDArray[np.float32]:
    """The polynomial kernel of KID, (x y / D + 1)^3."""
    kernel: NDArray[np.float32] = (np.matmul(x, y.T) * (1.0 / x.shape[1]) + 1) ** 3
    return kernel


def _off_diagonal(kernel: NDArray[np.float32]) -> Any:
    return (kernel.sum(axis=1) - np.diagonal(kernel)).sum()


def _precision_recall(fake: Tensor, real: Tensor) -> dict[str, float]:
    if min(len(fake), len(real)) <= NEIGHBOURS:
        raise ValueError(
            f"precision and recall need more than {NEIGHBOURS} images on each side, got {len(fake)} generated and "
            f"{len(real)} real; evaluate more samples"
        )
    from torch_fidelity.metric_prc import (
        KEY_METRIC_PRECISION,
        KEY_METRIC_RECALL,
        prc_features_to_metric,
    )

    # generated images first, as in torch-fidelity; in parts, as the whole distance matrix of 50,000
    # images would take 20 GB
    options = {
        "prc_neighborhood": NEIGHBOURS,
        "prc_batch_size": 2048,
        "save_cpu_ram": True,
        "verbose": False,
    }
    result = prc_features_to_metric(fake, real, **options)
    return {"precision": result[KEY_METRIC_PRECISION], "recall": result[KEY_METRIC_RECALL]}
