"""What a sweep has measured, ready to be shown: trials that differ in their seed alone as one, with
mean and spread.

FID, KID, precision and recall mean nothing across feature extractors and data sets, so everything
is asked for by `features`: the extractor's name, and that of the data where a sweep has several.
"""

import json
import math
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from statistics import mean, stdev
from typing import Any, NamedTuple

from orchestrator.plan.plan import Trial, plain, short_key
from orchestrator.sweeps.ranking import metric_of, scale_of
from orchestrator.sweeps.records import Records
from orchestrator.sweeps.status import Status

LOGARITHMIC = ("fid", "kid", "w2")  # distances: what matters is their ratio


class Spread(NamedTuple):
    """The mean over so many `trials` and their standard deviation; of a single trial that of its
    sampling seeds."""

    mean: float
    std: float = 0.0
    trials: int = 1


@dataclass(frozen=True)
class SeedGroup:
    """Trials that differ in their seed alone, how each of them ended, and what they measured."""

    trials: tuple[Trial, ...]
    statuses: tuple[Status, ...]
    features: str
    values: dict[str, Spread]

    @property
    def overrides(self) -> dict[str, Any]:
        """The swept settings that the trials share."""
        return {k: v for k, v in self.trials[0].overrides.items() if k != "seed"}

    @property
    def status(self) -> str:
        """The one status of all, or how many have which."""
        counts = Counter(self.statuses)
        return (
            next(iter(counts))
            if len(counts) == 1
            else ", ".join(f"{n} {status}" for status, n in counts.items())
        )


class Results:
    """Everything that the sweep of `records` has measured."""

    def __init__(self, records: Records) -> None:
        self.records = records
        self.metric, self.small_is_good = metric_of(records)

    @cached_property
    def settings(self) -> list[SeedGroup]:
        """All settings, best first, unmeasured ones last; those of other features after another."""
        return self._settings(lambda trial: _text_of(trial.overrides, without=("seed",)))

    @cached_property
    def single(self) -> list[SeedGroup]:
        """Every trial as a setting of its own, in the same order."""
        return self._settings(lambda trial: str(trial.index))

    @cached_property
    def features(self) -> list[str]:
        """The feature extractors that numbers rest on, in the order of the trials."""
        return list(
            dict.fromkeys(name for t in self.records.plan.trials if (name := self.features_of(t)))
        )

    @cached_property
    def metrics(self) -> list[str]:
        """The metrics that were measured: first what the trials are ranked by, then the others that
        were asked for."""
        asked = dict.fromkeys((self.metric, *self.records.plan.experiment.evaluation.metrics))
        return [m for m in asked if any(m in s.values for s in self.settings)]

    @cached_property
    def names(self) -> dict[str, str]:
        """What each swept setting is called: its last word where that is its own, else its whole
        key."""
        keys = dict.fromkeys(key for trial in self.records.plan.trials for key in trial.overrides)
        short = Counter(short_key(key) for key in keys)
        return {key: short_key(key) if short[short_key(key)] == 1 else key for key in keys}

    def measured(self, features: str, *needed: str) -> list[SeedGroup]:
        """The settings with numbers for the metric and all that is `needed` on these features, best
        first."""
        wanted = (self.metric, *needed)
        return [
            s
            for s in self.settings
            if s.features == features and all(name in s.values for name in wanted)
        ]

    def better(self, values: Iterable[float]) -> float:
        """The best of `values`."""
        return min(values) if self.small_is_good else max(values)

    def title(self, setting: SeedGroup) -> str:
        """The swept settings in words."""
        said = ", ".join(f"{self.names[k]} {plain(v)}" for k, v in setting.overrides.items())
        return said or self.network(setting.trials[0])

    def network(self, trial: Trial) -> str:
        """Which network is sampled: the teacher with its solver, or a student with its distiller
        and chain."""
        sampling = trial.config.sampling
        distill = trial.config.distill
        if sampling.model == "teacher":
            return f"teacher, {sampling.solver}"
        return f"student {distill.shown}{distill.chain_text()}"

    def line(self, trial: Trial) -> str:
        """The network with every swept setting that concerns it, but for seed and number of
        steps."""
        told = {"sampling.steps", "sampling.model", "sampling.solver", "distill.kind", "seed"}
        told |= {"distill.intervals"} if trial.config.distill.chain else set()
        teacher = trial.config.sampling.model == "teacher"
        shown = {
            k: v
            for k, v in trial.overrides.items()
            if k not in told and not (teacher and k.startswith("distill."))
        }
        return ", ".join(
            [self.network(trial), *(f"{self.names[k]} {plain(v)}" for k, v in shown.items())]
        )

    def numbers(self, trial: Trial) -> dict[str, float]:
        """The finite numbers among what `trial` measured."""
        found = self.records.measured(trial).items()
        return {k: v for k, v in found if isinstance(v, int | float) and math.isfinite(v)}

    def features_of(self, trial: Trial) -> str:
        """The features that the numbers of `trial` rest on, with the data where there are several:
        numbers of others are on another scale. Empty where it is not measured."""
        return scale_of(self.records, trial)

    def spread(self, trials: Iterable[Trial], name: str) -> Spread | None:
        """Mean and spread of a measure; trials that share one evaluation count once. None where
        nobody has it."""
        by_key = {trial.key: self.numbers(trial) for trial in trials}
        found = [numbers for numbers in by_key.values() if name in numbers]
        if not found:
            return None
        values = [numbers[name] for numbers in found]
        std = stdev(values) if len(values) > 1 else found[0].get(f"{name}_std", 0.0)
        return Spread(mean(values), std, len(values))

    def _settings(self, name: Any) -> list[SeedGroup]:
        plan, endings = self.records.state
        trials = plan.trials
        measured = {name(t): f for t in reversed(trials) if (f := self.features_of(t))}
        groups: dict[tuple[str, str], list[Trial]] = defaultdict(list)
        for trial in trials:
            groups[name(trial), self.features_of(trial) or measured.get(name(trial), "")].append(
                trial
            )
        found = []
        for (_, features), group in groups.items():
            keys = dict.fromkeys(k for t in group for k in self.numbers(t))
            values = {k: spread for k in keys if (spread := self.spread(group, k)) is not None}
            found.append(
                SeedGroup(
                    tuple(group), tuple(endings[t.index].status for t in group), features, values
                )
            )
        return sorted(found, key=self._rank)

    def _rank(self, setting: SeedGroup) -> tuple[bool, int, float]:
        value = setting.values.get(self.metric)
        if value is None:
            return True, 0, 0.0
        of = self.features.index(setting.features) if setting.features else -1
        return False, of, value.mean if self.small_is_good else -value.mean


def said(measure: str) -> str:
    """A measure for people: FID, KID, log likelihood."""
    return measure.upper() if measure in (*LOGARITHMIC, "nfe") else measure.replace("_", " ")


def logarithmic(metric: str, values: Iterable[float]) -> bool:
    """Whether an axis of `metric` is to be logarithmic: an estimate of KID can be below zero."""
    return metric in LOGARITHMIC and all(value > 0 for value in values)


def _text_of(overrides: dict[str, Any], without: tuple[str, ...]) -> str:
    return json.dumps({k: v for k, v in overrides.items() if k not in without})
