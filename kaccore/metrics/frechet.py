"""Frechet distances of features: statistics over batches, distances by class, and the bias from few
images.

    d^2 = |m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2))        m, C  mean and covariance of the features of each side

Source: Heusel et al. 2017, arXiv 1706.08500, eq. 6. All functions take features (N, D) and return
numbers; `kaccore.metrics.fid` handles images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Generator, Tensor

from kaccore.metrics.resampled import resampled_variance


class Moments(NamedTuple):
    """The moments of features that FID uses: `mean` (D,) and unbiased `covariance` (D, D), float64
    on the CPU."""

    mean: Tensor
    covariance: Tensor


class FeatureStatistics:
    """Mean and covariance of features that come in batches, in double precision; the features are
    not kept.

    Each worker can gather its own; `merge` combines them, in any order up to rounding. `width` is D;
    the memory is D^2 doubles (34 MB for Inception). Source: Chan, Golub and LeVeque
    1983, the pairwise update of centred sums."""

    def __init__(self, width: int) -> None:
        self.count = 0
        self.mean = torch.zeros(width, dtype=torch.float64)
        # the sum of (x - mean)(x - mean)^T
        self.scatter = torch.zeros(width, width, dtype=torch.float64)

    @property
    def width(self) -> int:
        """The number of features of an image."""
        return len(self.mean)

    def update(self, features: Tensor) -> None:
        """Add features (n, D), n >= 0. Raises ValueError for another width or features that are not
        finite."""
        batch = FeatureStatistics(self.width)
        if features.shape[1:] != batch.mean.shape:
            raise ValueError(
                f"features of shape {tuple(features.shape)}; expected (n, {self.width})"
            )
        if len(features):
            wide = _finite(features)
            batch.count, batch.mean = len(wide), wide.mean(0)
            batch.scatter = (wide - batch.mean).T @ (wide - batch.mean)
        self.merge(batch)

    def merge(self, other: FeatureStatistics) -> None:
        """Add the images of `other`. Raises ValueError for another width."""
        if other.width != self.width:
            raise ValueError(f"statistics of features {other.width} wide; expected {self.width}")
        count = self.count + other.count
        if other.count == 0:
            return
        shift = other.mean - self.mean
        between = torch.outer(shift, shift) * (self.count * other.count / count)
        self.scatter = self.scatter + other.scatter + between
        self.mean = self.mean + shift * (other.count / count)
        self.count = count

    def statistics(self) -> Moments:
        """Mean and unbiased covariance so far. Raises ValueError for fewer than two images."""
        if self.count < 2:
            raise ValueError(f"features of {self.count} images; expected at least 2 images")
        return Moments(self.mean, self.scatter / (self.count - 1))


def moments(features: Tensor) -> Moments:
    """Mean and covariance of features (N, D) at once. Raises ValueError for N < 2 or features that
    are not finite."""
    wide = checked_features(features).numpy()
    covariance = np.cov(wide, rowvar=False)
    return Moments(torch.from_numpy(wide.mean(0)), torch.from_numpy(covariance))


def frechet_distance(one: Moments, other: Moments) -> float:
    """The (squared) Frechet distance of two Gaussians with these moments: torch-fidelity's
    arithmetic, to the last digit."""
    shift = one.mean.numpy() - other.mean.numpy()
    first, second = one.covariance.numpy(), other.covariance.numpy()
    eigenvalues = np.linalg.eigvals(first.dot(second)).astype("complex128")
    root_trace = np.sum(np.sqrt(eigenvalues).real)
    return float(shift.dot(shift) + np.trace(first) + np.trace(second) - 2 * root_trace)


def checked_features(features: Tensor) -> Tensor:
    """Features (N, D) as float64 on the CPU. Raises ValueError for N < 2 or features that are not
    finite."""
    if features.dim() != 2 or len(features) < 2:
        raise ValueError(
            f"features of shape {tuple(features.shape)}; expected (N, D) of at least 2 images"
        )
    return _finite(features)


def _finite(features: Tensor) -> Tensor:
    """Features in double precision: in float32 small eigenvalues of the covariance would be noise."""
    if not features.isfinite().all():
        raise ValueError("features contain NaN or infinity; check the images that they come from")
    return features.detach().to("cpu", torch.float64)


class PerClassFid(NamedTuple):
    """`fid` by class, and the classes left out: `too_few`, class -> numbers of (generated, real)
    images."""

    fid: dict[int, float]
    too_few: dict[int, tuple[int, int]]


def per_class_fid(
    features: Tensor,
    labels: Tensor,
    reference_features: Tensor,
    reference_labels: Tensor,
    minimum: int | None = None,
) -> PerClassFid:
    """FID of each class's generated images (M, D) against that class's real images (N, D), `labels`
    (M,) and (N,).

    A class needs more than `minimum` images on each side, by default D: with fewer the covariance is
    singular, and the distance reflects the number of images rather than their content. Raises
    ValueError if features and labels do not fit together."""
    sides = ((features, labels), (reference_features, reference_labels))
    for rows, classes in sides:
        wrong_width = rows.dim() != 2 or rows.shape[1] != features.shape[1]
        if wrong_width or tuple(classes.shape) != (len(rows),):
            raise ValueError(
                f"features of shape {tuple(rows.shape)} and labels of shape {tuple(classes.shape)}; expected "
                f"(N, {features.shape[-1]}) and (N,)"
            )
    minimum = features.shape[1] if minimum is None else minimum
    result = PerClassFid({}, {})
    for label in torch.cat([classes.cpu() for _, classes in sides]).unique().tolist():
        fake, real = (rows[classes == label] for rows, classes in sides)
        if min(len(fake), len(real)) > max(minimum, 1):
            result.fid[label] = frechet_distance(moments(fake), moments(real))
        else:
            result.too_few[label] = (len(fake), len(real))
    return result


class MeanStd(NamedTuple):
    """Mean and standard deviation of a score over random splits."""

    mean: float
    std: float


def perfect_model_fid(
    real_features: Tensor,
    count: int,
    seed: int = 0,
    splits: int = 10,
    labels: Tensor | None = None,
) -> MeanStd:
    """FID's bias: the score of a perfect model with `count` samples against all N real images.

    `labels` (N,): those of the real images, for a model that is asked for each label as often as the
    real images have it. Both parts of a split then have the labels in the same proportions, up to
    rounding. Where classes are far apart the score is much lower: on digits by 40 %.

    FID of two sets from one distribution grows as 1/n + 1/m with their sizes (to first order: it is
    quadratic in the errors of the moments, whose variances are 1/n). It is measured on k real
    images, k = min(count, N/2), against the other N - k, and scaled from 1/k + 1/(N-k) to 1/count +
    1/N; mean and spread over `splits` random splits. With k below the features' width the covariance
    is singular, and the scaling, if any is needed, is rough. Raises ValueError for count < 2, splits <
    1, fewer than four real images, or another number of labels."""
    total = len(real_features)
    if count < 2 or splits < 1 or total < 4:
        raise ValueError(
            f"count = {count}, splits = {splits}, {total} real images; expected at least 2, 1 and 4"
        )
    if labels is not None and len(labels) != total:
        raise ValueError(f"{len(labels)} labels of {total} real images")
    k = min(count, total // 2)
    scale = (1 / count + 1 / total) / (1 / k + 1 / (total - k))
    generator, scores = Generator().manual_seed(seed), []
    for _ in range(splits):
        order = torch.randperm(total, generator=generator)
        if labels is not None:
            order = _spread(order, labels.cpu())
        order = order.to(real_features.device)
        scores.append(
            scale
            * frechet_distance(moments(real_features[order[:k]]), moments(real_features[order[k:]]))
        )
    spread = torch.tensor(scores, dtype=torch.float64)
    return MeanStd(float(spread.mean()), float(spread.std(correction=0)))


class Resampled(NamedTuple):
    """FIDs of resampled images, both (resamples,) float64: `values` against the real images, and
    `own` against the images themselves, whose distance is all noise."""

    values: Tensor
    own: Tensor

    def variance(self) -> float:
        """The variance of FID over new images, see `resampled_variance`."""
        return resampled_variance(self.values, self.own)


def bootstrap_fid(
    samples: Sequence[Tensor],
    real: Moments,
    labels: Sequence[Tensor] | None = None,
    *,
    resamples: int = 200,
    seed: int = 0,
) -> Resampled:
    """FIDs of resampled images: the bootstrap over images, for the spread of FID.

    `samples`: features (N, D) of each sampling seed, whose FIDs are averaged; `labels`: their labels
    (N,), which are kept: images are drawn with replacement within each label. The images of resample
    k depend only on `seed`, k, N and the labels, so that the values of two networks are paired where
    both were drawn with the same noise and labels. Resampling adds to FID's bias: take the values'
    spread, not their mean. Raises ValueError for resamples < 2 or no samples.

    Source: Efron 1979. A resample takes a product of D^2 N operations and the eigenvalues of two
    symmetric matrices."""
    if resamples < 2 or not samples:
        raise ValueError(
            f"resamples = {resamples}, {len(samples)} samplings: expected at least 2 and 1"
        )
    generator = Generator().manual_seed(seed)
    totals = torch.zeros(2, resamples, dtype=torch.float64)
    for number, features in enumerate(samples):
        wide = checked_features(features)
        label = torch.zeros(len(wide), dtype=torch.int64) if labels is None else labels[number]
        members = [(label.cpu() == one).nonzero()[:, 0] for one in label.unique().cpu()]
        sides = [_Side(real), _Side(moments(wide))]
        for k in range(resamples):
            drawn = [m[torch.randint(len(m), (len(m),), generator=generator)] for m in members]
            counts = torch.bincount(torch.cat(drawn), minlength=len(wide)).double()
            resampled = _weighted(wide, counts)
            for row, side in zip(totals, sides, strict=True):
                row[k] += side.distance(resampled)
    return Resampled(*(totals / len(samples)))


class _Side:
    """Moments to which many others are compared: the root of the covariance is taken once."""

    def __init__(self, real: Moments) -> None:
        values, vectors = torch.linalg.eigh(real.covariance)
        self.root = vectors * values.clamp_min(0).sqrt() @ vectors.T
        self.mean, self.trace = real.mean, real.covariance.trace()

    def distance(self, other: Moments) -> Tensor:
        """The Frechet distance, which `frechet_distance` has to a relative 1e-6."""
        product = self.root @ other.covariance @ self.root
        overlap = torch.linalg.eigvalsh(product).clamp_min(0).sqrt().sum()
        shift = (other.mean - self.mean).square().sum()
        return shift + other.covariance.trace() + self.trace - 2 * overlap


def _weighted(features: Tensor, counts: Tensor) -> Moments:
    """The moments of features (N, D) of which row k counts `counts` (N,) times."""
    total = counts.sum()
    mean = counts @ features / total
    scatter = features.T @ (counts[:, None] * features) - total * mean[:, None] * mean
    return Moments(mean, scatter / (total - 1))


def _spread(order: Tensor, labels: Tensor) -> Tensor:
    """The images of `order` so that each first part of it has the labels in nearly the proportions
    of the whole: image j of the n with one label comes at (j + 1/2) / n of the way."""
    of_image = labels[order]
    place = torch.empty(len(order), dtype=torch.float64)
    for label in of_image.unique():
        at = (of_image == label).nonzero()[:, 0]
        place[at] = (torch.arange(len(at), dtype=torch.float64) + 0.5) / len(at)
    return order[place.argsort(stable=True)]
