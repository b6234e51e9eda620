"""Does a model copy its training images?"""

import math
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

MEMORISED = 1 / 3  # of the distance to the second nearest training image, arXiv 2310.02664
CHUNK_ELEMENTS = 2**24  # of a part of the distance matrix: 64 MB in float32


class Nearest(NamedTuple):
    """The k nearest training images of each sample, nearest first: Euclidean `distances` and
    `indices`, (N, k)."""

    distances: Tensor
    indices: Tensor


@torch.no_grad()
def nearest(samples: Tensor, train: Tensor, k: int = 2) -> Nearest:
    """The nearest of `train` (M, ...) for each of `samples` (N, ...), floats of the same shape and
    scale.

    Memory stays within some hundred MB whatever N and M are. Raises ValueError for other shapes, or
    k not in [1, M]."""
    if samples.shape[1:] != train.shape[1:]:
        raise ValueError(
            f"samples of shape {tuple(samples.shape)}, training images of {tuple(train.shape)}"
        )
    if not 1 <= k <= len(train):
        raise ValueError(f"k = {k}: expected 1 to {len(train)}, the number of training images")
    x, y = samples.flatten(1).float(), train.flatten(1).float()
    rows = max(1, CHUNK_ELEMENTS // max(len(y), k * y.shape[1]))
    parts = [_nearest(part, y, k) for part in x.split(rows)]
    return Nearest(
        torch.cat([part.distances for part in parts]), torch.cat([part.indices for part in parts])
    )


def memorisation_fraction(distances: Tensor) -> float:
    """The share of samples whose nearest training image is less than a third of the distance of
    the second nearest; `distances` (N, 2 or more) of `nearest`. An exact copy counts even if the training set
    has the image twice.

    Raises ValueError for another shape or no samples.
    """
    if distances.dim() != 2 or distances.shape[1] < 2 or not len(distances):
        raise ValueError(
            f"distances of shape {tuple(distances.shape)}; expected (N, 2 or more) with N >= 1"
        )
    first, second = distances[:, 0], distances[:, 1]
    return float(((first < MEMORISED * second) | (first == 0)).float().mean())


class RankCorrelation(NamedTuple):
    """Spearman's `rho` in [-1, 1] and the two-sided `pvalue` of no correlation."""

    rho: float
    pvalue: float


def rank_correlation(energy: Tensor, distance: Tensor) -> RankCorrelation:
    """Spearman's rank correlation of kinetic path energy with nearest-training-image distance, both
    (N,): positive where images that took more effort are in sparser regions (arXiv 2602.07928). NaN
    where a value is NaN, or all values of one side are equal. The p-value is that of Student's t
    distribution with N - 2 degrees of freedom, as in `scipy.stats.spearmanr`, whose import takes a second."""
    from scipy.special import stdtr

    if bool(energy.isnan().any() | distance.isnan().any()):
        return RankCorrelation(math.nan, math.nan)
    ranks = [_ranks(side.cpu().numpy()) for side in (energy, distance)]
    freedom = len(ranks[0]) - 2
    with np.errstate(divide="ignore", invalid="ignore"):
        rho = np.corrcoef(ranks[0], ranks[1])[0, 1]
        t = rho * np.sqrt(np.maximum(freedom / ((1 + rho) * (1 - rho)), 0))
    return RankCorrelation(float(rho), float(2 * stdtr(freedom, -abs(t))))


def _ranks(values: NDArray[Any]) -> NDArray[np.float64]:
    """The rank of each value, from 1; equal ones share the mean of their ranks."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = counts.cumsum()
    ranks: NDArray[np.float64] = (last - (counts - 1) / 2)[inverse]
    return ranks


def _nearest(x: Tensor, y: Tensor, k: int) -> Nearest:
    """The search uses a matrix product, which is fast but inexact near zero; the distances of the
    nearest images are then computed exactly."""
    indices = (
        (y.square().sum(1) - 2 * x @ y.T).topk(k, largest=False).indices
    )  # |x - y|^2 less |x|^2
    distances, order = (y[indices] - x[:, None]).square().sum(2).sqrt().sort(dim=1, stable=True)
    return Nearest(distances, indices.gather(1, order))
