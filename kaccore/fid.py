"""FID, KID, precision and recall of generated images against a reference, by torch-fidelity's own functions.

images (uint8) -> `extract` -> features (N, D) -> `compare` with a `Reference` -> {"fid": ..., ...}

Images enter an extractor at their own size; what Inception does to them inside is what torch-fidelity does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Generator, Tensor
from torch_fidelity.metric_fid import KEY_METRIC_FID, fid_features_to_statistics, fid_statistics_to_metric
from torch_fidelity.metric_kid import KEY_METRIC_KID_MEAN, KEY_METRIC_KID_STD, kid_features_to_metric
from torch_fidelity.metric_prc import KEY_METRIC_PRECISION, KEY_METRIC_RECALL, prc_features_to_metric

from kaccore.data import ImageData
from kaccore.features import check_images, extractor, feature_label, feature_spec

METRICS = ("fid", "kid", "precision", "recall")
KID_SUBSETS, KID_SUBSET_SIZE = 100, 1000  # torch-fidelity's defaults
NEIGHBOURS = 3  # precision and recall: an image's ball reaches to its third neighbour


def extract(
    images_uint8: Tensor,
    features: str,
    *,
    batch_size: int = 256,
    device: str = "cpu",
    weights: str | Path | None = None,
    weights_sha256: str | None = None,
) -> Tensor:
    """Features of images: uint8 (N, C, H, W) -> float32 (N, D) on the CPU, whatever `batch_size` is.

    Gray images are repeated to three channels for an extractor of colour images. `weights`: a file of Inception
    weights, see `kaccore.features.read_weights`. Raises ValueError for unknown features, images that do not suit them
    or weights with another hash, RuntimeError where Inception's weights cannot be downloaded.
    """
    spec = feature_spec(features)
    check_images(images_uint8, spec)
    if batch_size < 1:
        raise ValueError(f"batch_size is {batch_size}; expected 1 or more")
    model = extractor(features, str(device), str(weights) if weights is not None else None, weights_sha256)
    rows = [torch.empty(0, spec.width)]
    with torch.no_grad():
        for batch in images_uint8.split(batch_size):
            # Repeated a batch at a time: a whole gray data set need not be held three times.
            (output,) = model(batch.to(device).expand(-1, spec.channels, -1, -1))
            rows.append(output.to("cpu", torch.float32))
    return torch.cat(rows)


@dataclass(frozen=True, eq=False)
class Reference:
    """The real images' side of a comparison, computed once a data set and kept.

    features    name of the extractor (with the weights' hash if they are not the official ones)
    matrix      (N, D) float32, the features themselves: KID, precision and recall need them
    mean        (D,) float64
    covariance  (D, D) float64
    """

    features: str
    matrix: Tensor
    mean: Tensor
    covariance: Tensor

    @property
    def count(self) -> int:
        """How many real images there are."""
        return self.matrix.shape[0]

    @classmethod
    def build(
        cls, images_uint8: Tensor, features: str, *, weights_sha256: str | None = None, **extraction: Any
    ) -> Reference:
        """The reference of images, uint8 (N, C, H, W); arguments and errors as for `extract`, ValueError for N < 2."""
        matrix = extract(images_uint8, features, weights_sha256=weights_sha256, **extraction)
        return cls.of_features(matrix, feature_label(features, weights_sha256))

    @classmethod
    def of_features(cls, matrix: Tensor, features: str) -> Reference:
        """The reference of a feature matrix (N, D). Raises ValueError for N < 2 or features that are not finite."""
        statistics = _statistics(matrix)
        mean, covariance = torch.from_numpy(statistics["mu"]), torch.from_numpy(statistics["sigma"])
        return cls(features, matrix.detach().to("cpu", torch.float32), mean, covariance)

    def save(self, path: str | Path) -> None:
        """Write a safetensors file; the extractor's name is in its metadata."""
        tensors = {"matrix": self.matrix, "mean": self.mean, "covariance": self.covariance}
        content = save({key: value.contiguous() for key, value in tensors.items()}, {"features": self.features})
        Path(path).write_bytes(content)  # save_file would deny all other users the file, umask or not

    @classmethod
    def load(cls, path: str | Path) -> Reference:
        """Read what `save` wrote. Raises ValueError for any other file."""
        try:
            with safe_open(str(path), framework="pt") as file:
                features = (file.metadata() or {})["features"]
                return cls(features, *(file.get_tensor(key) for key in ("matrix", "mean", "covariance")))
        except (OSError, KeyError, SafetensorError) as error:
            raise ValueError(f"{str(path)!r} is not a saved Reference ({error}); build it again") from error


def compare(
    fake_features: Tensor, reference: Reference, metrics: Sequence[str] = ("fid",), seed: int = 0
) -> dict[str, float]:
    """Metrics among `METRICS` of generated features (M, D) against a reference of the same extractor.

    fid               Frechet distance of the two Gaussians, Heusel et al. 2017 (biased up by few samples)
    kid               unbiased cubic MMD^2, mean over 100 random subsets, Binkowski et al. 2018; `seed` draws them.
                      Comes with `kid_std`, over the subsets: zero where a subset is all there is (M = N <= 1000).
                      Near zero either sign is right, and a copy of the real images scores below zero
    precision, recall  share of fake images within a real one's neighbourhood, and vice versa, Kynkaanniemi et al. 2019

    Raises ValueError for an unknown metric, another width, features that are not finite, or too few samples: two are
    needed, and four for precision and recall.
    """
    unknown = [metric for metric in metrics if metric not in METRICS]
    if unknown:
        raise ValueError(f"unknown metrics {', '.join(map(repr, unknown))}; valid names: {', '.join(METRICS)}")
    # Single precision for the pairwise metrics, as torch-fidelity has it: KID takes half the time, equal to 1e-5.
    fake, real = _checked(fake_features).to(torch.float32), reference.matrix
    if fake.shape[1] != real.shape[1]:
        raise ValueError(
            f"generated features are {fake.shape[1]} wide, the reference ({reference.features}) {real.shape[1]}; "
            "extract both with the same features"
        )
    values: dict[str, float] = {}
    if "fid" in metrics:
        kept = {"mu": reference.mean.numpy(), "sigma": reference.covariance.numpy()}
        values["fid"] = _frechet(_statistics(fake_features), kept)
    if "kid" in metrics:
        size = min(KID_SUBSET_SIZE, len(fake), len(real))
        options = {"kid_subsets": KID_SUBSETS, "kid_subset_size": size, "rng_seed": seed, "verbose": False}
        kid = kid_features_to_metric(fake, real, **options)
        values |= {"kid": kid[KEY_METRIC_KID_MEAN], "kid_std": kid[KEY_METRIC_KID_STD]}
    if "precision" in metrics or "recall" in metrics:
        values |= {key: value for key, value in _precision_recall(fake, real).items() if key in metrics}
    return values


def split_halves_fid(data: ImageData, features: str, seed: int = 0, pairs: int = 10, **extraction: Any) -> float:
    """A yardstick: FID between two random halves of the real images, mean over `pairs` splits.

    What a perfect model would score with so few samples. Arguments and errors as for `extract`, ValueError for
    `pairs` < 1 and fewer than four images.
    """
    if pairs < 1:
        raise ValueError(f"pairs is {pairs}; expected 1 or more")
    matrix = extract(data.images, features, **extraction)
    generator, half, scores = Generator().manual_seed(seed), len(matrix) // 2, []
    for _ in range(pairs):
        order = torch.randperm(len(matrix), generator=generator)
        scores.append(_frechet(_statistics(matrix[order[:half]]), _statistics(matrix[order[half : 2 * half]])))
    return sum(scores) / pairs


def _checked(matrix: Tensor) -> Tensor:
    """Features as float64 on the CPU: in float32 the covariance's small eigenvalues would be noise."""
    if matrix.dim() != 2 or len(matrix) < 2:
        raise ValueError(f"features of shape {tuple(matrix.shape)}; expected (N, D) of at least 2 images")
    if not matrix.isfinite().all():
        raise ValueError("features hold NaN or infinity; look at the images they were extracted from")
    return matrix.detach().to("cpu", torch.float64)


def _statistics(matrix: Tensor) -> dict[str, Any]:
    """Mean "mu" (D,) and unbiased covariance "sigma" (D, D) of features (N, D), as float64 arrays."""
    return fid_features_to_statistics(_checked(matrix))


def _frechet(one: dict[str, Any], other: dict[str, Any]) -> float:
    return float(fid_statistics_to_metric(one, other, verbose=False)[KEY_METRIC_FID])


def _precision_recall(fake: Tensor, real: Tensor) -> dict[str, float]:
    if min(len(fake), len(real)) <= NEIGHBOURS:
        raise ValueError(
            f"precision and recall need more than {NEIGHBOURS} images a side, got {len(fake)} generated and "
            f"{len(real)} real; evaluate more samples"
        )
    # torch-fidelity's order: generated first. In parts, since the whole distance matrix of 50,000 would take 20 GB.
    options = {"prc_neighborhood": NEIGHBOURS, "prc_batch_size": 2048, "save_cpu_ram": True, "verbose": False}
    result = prc_features_to_metric(fake, real, **options)
    return {"precision": result[KEY_METRIC_PRECISION], "recall": result[KEY_METRIC_RECALL]}
