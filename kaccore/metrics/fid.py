"""FID, KID, precision and recall of generated images against a reference, and the Inception Score,
by torch-fidelity's own functions.

images (uint8) -> `extract` -> features (N, D) -> `compare` with a `Reference` -> {"fid": ..., ...}

Images enter an extractor at their own size; what Inception does to them inside is what
torch-fidelity does. They may come as one tensor, as an `ImageData` or in batches of any size: then
no more than a batch of them is in memory, and for FID alone (`extract_statistics`,
`Reference.build(keep_features=False)`) not even their features are."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Generator, Tensor
from torch_fidelity.metric_isc import (
    KEY_METRIC_ISC_MEAN,
    KEY_METRIC_ISC_STD,
    isc_features_to_metric,
)
from torch_fidelity.metric_kid import (
    KEY_METRIC_KID_MEAN,
    KEY_METRIC_KID_STD,
    kid_features_to_metric,
)
from torch_fidelity.metric_prc import (
    KEY_METRIC_PRECISION,
    KEY_METRIC_RECALL,
    prc_features_to_metric,
)

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
NEIGHBOURS = 3  # precision and recall: an image's ball reaches to its third neighbour
SCORE_SPLITS = 10  # of the Inception Score; torch-fidelity's default

Images = Tensor | ImageData | Iterable[Tensor]  # uint8 (N, C, H, W), or batches of them


class Outputs(NamedTuple):
    """What an extractor says of images: `features` (N, D) and class `logits` (N, K), float32 on the
    CPU."""

    features: Tensor
    logits: Tensor


def extract(images_uint8: Images, features: str, **extraction: Any) -> Tensor:
    """Features of images, uint8 (N, C, H, W): float32 (N, D) on the CPU; arguments and errors as
    for `extract_batches`."""
    rows = [torch.empty(0, spec_of(features, extraction.get("weights")).width)]
    return torch.cat(
        rows + [batch.features for batch in extract_batches(images_uint8, features, **extraction)]
    )


def extract_with_logits(images_uint8: Images, features: str, **extraction: Any) -> Outputs:
    """Features and class logits of images, from one pass; arguments and errors as for
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

    `batch_size` changes nothing else. Gray images are repeated to three channels for an extractor
    of colour images. `weights`: a file of the weights of Inception or DINOv2, see
    `extractors.read_weights`, or of a data set's own network. Raises ValueError for unknown
    features, images that do not suit them or weights with another hash, RuntimeError where official
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
            # Repeated a batch at a time: a whole gray data set need not be held three times.
            outputs = model(batch.to(device).expand(-1, spec.channels, -1, -1))
            yield Outputs(*(output.to("cpu", torch.float32) for output in outputs))


@dataclass(frozen=True, eq=False)
class Reference:
    """The real images' side of a comparison, computed once a data set and kept.

    features    name of the extractor (with the weights' hash if they are not the official ones)
    matrix      (N, D) float32, the features themselves: KID, precision and recall need them; (0, D) if not kept
    mean        (D,) float64
    covariance  (D, D) float64
    count       N, how many real images there are
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
        `extract_batches`, ValueError for N < 2, and for an `ImageData` that is not the one whose
        own features these are. With `keep_features` False it holds the statistics alone, which
        serve FID and no other metric."""
        if is_own(features) and isinstance(images_uint8, ImageData):
            check_data(images_uint8, features, extraction.get("weights"))
        extraction["weights_sha256"] = weights_sha256
        label = feature_label(features, weights_sha256)
        if keep_features:
            return cls.of_features(extract(images_uint8, features, **extraction), label)
        gathered = extract_statistics(images_uint8, features, **extraction)
        return cls(label, torch.empty(0, gathered.width), *gathered.statistics(), gathered.count)

    @classmethod
    def of_features(cls, matrix: Tensor, features: str) -> Reference:
        """The reference of a feature matrix (N, D). Raises ValueError for N < 2 or features that
        are not finite."""
        return cls(
            features, matrix.detach().to("cpu", torch.float32), *moments(matrix), len(matrix)
        )

    def save(self, path: str | Path) -> None:
        """Write a safetensors file; the extractor's name is in its metadata. Equal references give
        equal bytes."""
        tensors = {"matrix": self.matrix, "mean": self.mean, "covariance": self.covariance}
        tensors["count"] = torch.tensor(
            self.count
        )  # not metadata, which safetensors writes in a random order
        content = save(
            {key: value.contiguous() for key, value in tensors.items()}, {"features": self.features}
        )
        write_bytes(
            Path(path), content
        )  # save_file would deny all other users the file, umask or not

    @classmethod
    def load(cls, path: str | Path) -> Reference:
        """Read what `save` wrote. Raises ValueError for any other file."""
        try:
            with safe_open(str(path), framework="pt") as file:
                features = (file.metadata() or {})["features"]
                matrix, mean, covariance, count = (
                    file.get_tensor(key) for key in ("matrix", "mean", "covariance", "count")
                )
                return cls(features, matrix, mean, covariance, int(count))
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
                      Comes with `kid_std`, over the subsets: zero where a subset is all there is (M = N <= 1000).
                      Near zero either sign is right, and a copy of the real images scores below zero
    precision, recall  share of fake images within a real one's neighbourhood, and vice versa, Kynkaanniemi et al. 2019
    inception_score   see `inception_score`: of the generated images' `logits` (M, K) alone

    For `fid` gathered statistics do as well as features. Raises ValueError for an unknown metric,
    another width, no logits, features not finite or not kept, or fewer than 2 samples (precision,
    recall 4, inception_score 10)."""
    unknown = [metric for metric in metrics if metric not in METRICS]
    if unknown:
        raise ValueError(
            f"unknown metrics {', '.join(map(repr, unknown))}; valid names: {', '.join(METRICS)}"
        )
    width = (
        fake_features.width
        if isinstance(fake_features, FeatureStatistics)
        else fake_features.shape[-1]
    )
    if width != len(reference.mean):
        raise ValueError(
            f"generated features are {width} wide, the reference ({reference.features}) {len(reference.mean)}; "
            "extract both with the same features"
        )
    values = {}
    if "fid" in metrics:
        fake = (
            fake_features.statistics()
            if isinstance(fake_features, FeatureStatistics)
            else moments(fake_features)
        )
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


def inception_score(logits: Tensor, seed: int = 0) -> dict[str, float]:
    """exp of the mean KL divergence of each image's class probabilities from their mean, Salimans
    et al. 2016, from class `logits` (N, K): `inception_score` and `inception_score_std`, mean and
    spread over ten random splits.

    From 1 (all images look alike to the classifier) to K. It knows no real images, and is
    Inception's only where the logits are: with another classifier it is that classifier's score, to
    be named by its features. A split of n images scores n at most, so few images bias it down.
    Raises ValueError for fewer than ten images, no classes or logits not finite."""
    if logits.dim() == 2 and logits.shape[1] < 2:
        raise ValueError(
            "inception_score: these features come without classes; use those of a classifier"
        )
    if logits.dim() != 2 or len(logits) < SCORE_SPLITS:
        raise ValueError(
            f"logits of shape {tuple(logits.shape)}; expected (N, K) of at least {SCORE_SPLITS} images"
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
    """A yardstick: FID between two random halves of the real images, mean over `pairs` splits.

    What a perfect model would score with so few samples. Arguments and errors as for `extract`,
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
    """The metrics that look at pairs of images."""
    if isinstance(fake_features, FeatureStatistics) or not len(real):
        raise ValueError(
            f"{', '.join(metrics)}: needs the features themselves, and only statistics were kept"
        )
    # Single precision, as torch-fidelity has it: KID takes half the time, equal to 1e-5.
    values: dict[str, float] = {}
    fake = checked_features(fake_features).to(torch.float32)
    if "kid" in metrics:
        size = min(KID_SUBSET_SIZE, len(fake), len(real))
        options = {
            "kid_subsets": KID_SUBSETS,
            "kid_subset_size": size,
            "rng_seed": seed,
            "verbose": False,
        }
        kid = kid_features_to_metric(fake, real, **options)
        values |= {"kid": kid[KEY_METRIC_KID_MEAN], "kid_std": kid[KEY_METRIC_KID_STD]}
    if "precision" in metrics or "recall" in metrics:
        values |= {
            key: value for key, value in _precision_recall(fake, real).items() if key in metrics
        }
    return values


def _precision_recall(fake: Tensor, real: Tensor) -> dict[str, float]:
    if min(len(fake), len(real)) <= NEIGHBOURS:
        raise ValueError(
            f"precision and recall need more than {NEIGHBOURS} images a side, got {len(fake)} generated and "
            f"{len(real)} real; evaluate more samples"
        )
    # torch-fidelity's order: generated first. In parts, since the whole distance matrix of 50,000
    # would take 20 GB.
    options = {
        "prc_neighborhood": NEIGHBOURS,
        "prc_batch_size": 2048,
        "save_cpu_ram": True,
        "verbose": False,
    }
    result = prc_features_to_metric(fake, real, **options)
    return {"precision": result[KEY_METRIC_PRECISION], "recall": result[KEY_METRIC_RECALL]}
