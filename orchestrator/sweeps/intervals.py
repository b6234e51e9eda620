"""Intervals of what was measured, and of its ratios, from training seeds, from resampled images or
from sampling seeds.

Distances such as FID are compared by their ratios, so that everything is computed on logarithms; other
measures are compared by differences. Confidence is LEVEL for each interval.

- Several training seeds: log y = setting + seed + error, the two-way analysis of variance of
  randomised blocks. The interval of a setting uses the spread of seeds and error together, that of a
  ratio the spread of the error alone, since seeds are shared. Both are pooled over the settings that are
  within a factor NEAR of the best, with Student's t (Satterthwaite's degrees of freedom).
- One training seed: the images are resampled (`kaccore.metrics.frechet.bootstrap_fid`), two networks in
  pairs.
- Neither: the spread between sampling seeds, with Student's t, unpaired."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from scipy import special

from kaccore.metrics.resampled import resampled_variance

LEVEL = 0.95
NEAR = 4.0  # settings that are worse than the best by more have no part in the pooled spread

TRAININGS, IMAGES, SAMPLINGS = "training seeds", "images", "sampling seeds"


class Interval(NamedTuple):
    """An estimate with its confidence interval; `low` and `high` are NaN where it has none."""

    value: float
    low: float = math.nan
    high: float = math.nan

    @property
    def known(self) -> bool:
        """Whether there is an interval."""
        return math.isfinite(self.low)

    def text(self) -> str:
        """Three digits, such as 0.276 [0.259, 0.294]."""
        if not self.known:
            return _digits(self.value)
        return f"{_digits(self.value)} [{_digits(self.low)}, {_digits(self.high)}]"


def _digits(value: float) -> str:
    """Three digits, also where the last are zero; whole numbers above them."""
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:#.3g}".rstrip(".")


class Resamples(NamedTuple):
    """Measures of resampled images, (R,) each: against the real images, and against the images
    themselves."""

    values: np.ndarray
    own: np.ndarray


@dataclass(frozen=True)
class Sample:
    """What was measured of one setting: `values` by training seed, and where it is known, by seed, the
    `resamples`, and `samplings`: the standard deviation between sampling seeds and their number."""

    values: Mapping[int, float]
    resamples: Mapping[int, Resamples] = field(default_factory=dict)
    samplings: Mapping[int, tuple[float, int]] = field(default_factory=dict)


class _Estimate(NamedTuple):
    """A mean with its standard error and degrees of freedom; NaN: unknown."""

    mean: float
    error: float
    freedom: float


class Intervals:
    """The intervals of several settings that are measured on one scale. `ratios`: the measure is a
    positive distance, which is compared by ratios; else by differences. `small_is_good`: of the
    measure."""

    def __init__(
        self, samples: Sequence[Sample], *, ratios: bool, small_is_good: bool = True
    ) -> None:
        self.samples = samples
        self.ratios = ratios and all(v > 0 for s in samples for v in s.values.values())
        self._small_is_good = small_is_good
        self._within, self._error = self._spreads()

    @property
    def source(self) -> str:
        """Where the intervals come from: TRAININGS, IMAGES or SAMPLINGS; empty: there are none."""
        if any(len(sample.values) > 1 for sample in self.samples):
            return TRAININGS
        if any(sample.resamples for sample in self.samples):
            return IMAGES
        if any(n > 1 for sample in self.samples for _, n in sample.samplings.values()):
            return SAMPLINGS
        return ""

    def level(self, sample: Sample, confidence: float = LEVEL) -> Interval:
        """The measure of a setting: the mean over its training seeds, as in all figures and tables."""
        estimate = self._estimate(sample)
        mean = float(np.mean(list(sample.values.values())))
        centre = math.log(mean) if self.ratios else mean
        return self._interval(estimate._replace(mean=centre), confidence)

    def against(self, sample: Sample, other: Sample, confidence: float = LEVEL) -> Interval:
        """The ratio of a setting's measure to another's, or their difference."""
        return self._interval(self._difference(sample, other), confidence)

    def tied(self, sample: Sample, best: Sample, compared: int = 1) -> bool:
        """Whether `sample` cannot be told from `best`, by an interval that contains equality; False
        without one. `compared`: with how many settings the best is compared; the level is corrected
        for it (Bonferroni)."""
        confidence = 1 - (1 - LEVEL) / max(1, compared)
        interval = self.against(sample, best, confidence)
        nothing = 1.0 if self.ratios else 0.0
        return interval.known and interval.low <= nothing <= interval.high

    def _interval(self, estimate: _Estimate, confidence: float) -> Interval:
        back = math.exp if self.ratios else float
        if not math.isfinite(estimate.error):
            return Interval(back(estimate.mean))
        quantile = float(special.stdtrit(estimate.freedom, (1 + confidence) / 2))
        reach = quantile * estimate.error
        return Interval(*(back(estimate.mean + shift) for shift in (0.0, -reach, reach)))

    def _estimate(self, sample: Sample) -> _Estimate:
        values = self._scaled(sample)
        mean = float(np.mean(list(values.values())))
        if len(values) > 1:
            spread, freedom = self._within
            return _Estimate(mean, spread / math.sqrt(len(values)), freedom)
        (seed,) = values
        if seed in sample.resamples:
            return _Estimate(mean, math.sqrt(self._variance([(sample, seed, 1.0)])), math.inf)
        std, count = sample.samplings.get(seed, (math.nan, 0))
        if count < 2:
            return _Estimate(mean, math.nan, math.nan)
        return _Estimate(mean, std / self._unit(sample.values[seed]) / math.sqrt(count), count - 1)

    def _difference(self, sample: Sample, other: Sample) -> _Estimate:
        mine, theirs = self._scaled(sample), self._scaled(other)
        shared = sorted(mine.keys() & theirs.keys())
        if len(shared) > 1:
            spread, freedom = self._error
            mean = float(np.mean([mine[seed] - theirs[seed] for seed in shared]))
            return _Estimate(mean, spread * math.sqrt(2 / len(shared)), freedom)
        one, two = self._estimate(sample), self._estimate(other)
        mean = one.mean - two.mean
        if sample is other:
            return _Estimate(0.0, 0.0, math.inf)
        paired = len(mine) == len(theirs) == 1 and shared
        if paired and all(shared[0] in side.resamples for side in (sample, other)):
            sides = [(sample, shared[0], 1.0), (other, shared[0], -1.0)]
            if len({len(side.resamples[seed].values) for side, seed, _ in sides}) == 1:
                return _Estimate(mean, math.sqrt(self._variance(sides)), math.inf)
        freedom = min(one.freedom, two.freedom)
        return _Estimate(mean, math.hypot(one.error, two.error), freedom)

    def _variance(self, sides: Sequence[tuple[Sample, int, float]]) -> float:
        """The variance over new images of a sum of measures (sample, seed, sign), see
        `kaccore.metrics.resampled`."""
        total = [np.zeros(1), np.zeros(1)]
        for sample, seed, sign in sides:
            scale = sign / self._unit(sample.values[seed])
            for k, part in enumerate(sample.resamples[seed]):
                total[k] = total[k] + scale * part
        return resampled_variance(*total)

    def _unit(self, value: float) -> float:
        """What a small change of the measure is divided by on the scale on which it is compared."""
        return value if self.ratios else 1.0

    def _scaled(self, sample: Sample) -> dict[int, float]:
        scale = math.log if self.ratios else float
        return {seed: scale(value) for seed, value in sample.values.items()}

    def _spreads(self) -> tuple[tuple[float, float], tuple[float, float]]:
        """The pooled standard deviation within settings, and that of the error apart from settings and
        seeds, each with its degrees of freedom."""
        several = [self._scaled(sample) for sample in self.samples if len(sample.values) > 1]
        unknown = (math.nan, math.nan)
        if not several:
            return unknown, unknown
        rows = self._near(several)
        cells = [(i, seed, v) for i, row in enumerate(rows) for seed, v in row.items()]
        measured = np.array([value for _, _, value in cells])
        seeds = sorted({seed for _, seed, _ in cells})
        of_setting = np.eye(len(rows))[[i for i, _, _ in cells]]
        of_seed = np.eye(len(seeds))[[seeds.index(seed) for _, seed, _ in cells]]
        within = _residual(of_setting, measured)
        error = _residual(np.hstack([of_setting, of_seed]), measured)
        if math.isnan(error[0]):  # one setting alone, or settings that share no seeds
            return within, within
        if len(cells) == len(rows) * len(seeds):
            return _of_one_setting(within, error, len(rows), len(seeds)), error
        # settings share what a seed does to all of them: not more is known than of one of them
        return (within[0], min(len(row) for row in rows) - 1.0), error

    def _near(self, rows: Sequence[dict[int, float]]) -> Sequence[dict[int, float]]:
        if not self.ratios:
            return rows
        means = [float(np.mean(list(row.values()))) for row in rows]
        best = min(means) if self._small_is_good else max(means)
        return [r for r, m in zip(rows, means, strict=True) if abs(m - best) <= math.log(NEAR)]


def _of_one_setting(
    within: tuple[float, float], error: tuple[float, float], settings: int, seeds: int
) -> tuple[float, float]:
    """The standard deviation between the seeds of one setting, from a table without gaps, with
    Satterthwaite's degrees of freedom: that of the seeds, which all settings share, has only one
    fewer than there are seeds."""
    of_error = error[0] ** 2
    squares = within[0] ** 2 * within[1] - of_error * error[1]
    of_seeds = max(0.0, squares) / (seeds - 1) / settings
    rest = (1 - 1 / settings) * of_error
    total = of_seeds + rest
    if total == 0:
        return 0.0, within[1]
    freedom = total**2 / (of_seeds**2 / (seeds - 1) + rest**2 / error[1])
    return math.sqrt(total), freedom


def _residual(design: np.ndarray, measured: np.ndarray) -> tuple[float, float]:
    """The standard deviation that a linear model leaves, and its degrees of freedom."""
    rank = int(np.linalg.matrix_rank(design))
    freedom = len(measured) - rank
    if freedom < 1:
        return math.nan, math.nan
    found = np.linalg.lstsq(design, measured, rcond=None)[0]
    rest = measured - design @ found
    return math.sqrt(float(rest @ rest) / freedom), float(freedom)
