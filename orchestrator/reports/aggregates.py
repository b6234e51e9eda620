"""What a sweep has measured, ready for figures and tables: trials that differ only in their seed
form one group, with mean and standard deviation.

FID, KID, precision and recall do not compare across feature extractors and data sets. So everything
is grouped by `features`: the extractor's name, and that of the data set if a sweep has several.
"""

import json
import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from statistics import mean, stdev
from typing import Any, NamedTuple

from orchestrator.plan.plan import Trial, plain, short_key
from orchestrator.sweeps.ranking import metric_of, scale_of
from orchestrator.sweeps.records import Records
from orchestrator.sweeps.status import Status
from orchestrator.sweeps.verdict import BEST, TIE, Verdict, verdicts

LOGARITHMIC = ("fid", "kid", "w2")  # distances: their ratios matter


class Spread(NamedTuple):
    """Mean and standard deviation over so many `trials`; for a single trial the standard deviation
    is that between its sampling seeds."""

    mean: float
    std: float = 0.0
    trials: int = 1


@dataclass(frozen=True)
class SeedGroup:
    """Trials that differ only in their seed, how each of them ended, and what they measured."""

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
        """The status of the trials; if they differ, the number of trials for each status."""
        counts = Counter(self.statuses)
        if len(counts) == 1:
            return next(iter(counts))
        return ", ".join(f"{n} {status}" for status, n in counts.items())


class Results:
    """Everything that the sweep of `records` has measured, at the moment of the call."""

    def __init__(self, records: Records) -> None:
        self.records = records.snapshot()
        self.metric, self.small_is_good = metric_of(records)

    @cached_property
    def verdicts(self) -> list[Verdict]:
        """The verdict on each scale."""
        return verdicts(self.records)

    @cached_property
    def ranks(self) -> dict[int, str]:
        """By the index of a trial: BEST where its setting is the best of its number of steps, TIE
        where it cannot be told from that."""
        ranks: dict[int, str] = {}
        for answer in (answer for found in self.verdicts for answer in found.answers):
            ranks |= dict.fromkeys(answer.tied_trials, TIE) | dict.fromkeys(answer.trials, BEST)
        return ranks

    @cached_property
    def groups(self) -> list[SeedGroup]:
        """All groups, best first, unmeasured ones last; those of one feature extractor together."""
        return self._grouped(lambda trial: _text_of(trial.overrides, without=("seed",)))

    @cached_property
    def ungrouped(self) -> list[SeedGroup]:
        """Every trial as a group of its own, in the same order."""
        return self._grouped(lambda trial: str(trial.index))

    @cached_property
    def features(self) -> list[str]:
        """The features of the measured trials, in the order of the trials."""
        names = dict.fromkeys(self.features_of(trial) for trial in self.records.plan.trials)
        return [name for name in names if name]

    @cached_property
    def metrics(self) -> list[str]:
        """The metrics that were measured: first the one that ranks the trials, then the others that
        the experiment asks for."""
        wanted = dict.fromkeys((self.metric, *self.records.plan.experiment.evaluation.metrics))
        return [m for m in wanted if any(m in group.values for group in self.groups)]

    @cached_property
    def names(self) -> dict[str, str]:
        """The display name of each swept setting: the last word of its key if that is unique, else
        the whole key."""
        keys = dict.fromkeys(key for trial in self.records.plan.trials for key in trial.overrides)
        short = Counter(short_key(key) for key in keys)
        return {key: short_key(key) if short[short_key(key)] == 1 else key for key in keys}

    def measured(self, features: str, *needed: str) -> list[SeedGroup]:
        """The groups on these features that measured the metric and all that is `needed`, best
        first."""
        wanted = {self.metric, *needed}
        return [g for g in self.groups if g.features == features and wanted <= g.values.keys()]

    @property
    def several(self) -> bool:
        """Whether the sweep has several metrics."""
        sweep = self.records.plan.experiment.sweep
        return sweep is not None and len(sweep.objectives) > 1

    @property
    def cost(self) -> tuple[str, bool]:
        """What the metric is weighed against on a Pareto front, and whether a small value is good: the
        second of several metrics, else NFE. Measured seconds would put timing noise on it unasked."""
        sweep = self.records.plan.experiment.sweep
        if sweep is None or not self.several:
            return "nfe", True
        return list(sweep.objectives.items())[1]

    def better(self, values: Iterable[float]) -> float:
        """The best of `values` of the metric."""
        return min(values) if self.small_is_good else max(values)

    def group_title(self, group: SeedGroup) -> str:
        """The swept settings and their values, or else the network."""
        own = group.trials[0].shown_overrides
        shown = {key: value for key, value in group.overrides.items() if key in own}
        settings = ", ".join(f"{self.names[key]} {plain(value)}" for key, value in shown.items())
        return settings or self.network_label(group.trials[0])

    def network_label(self, trial: Trial) -> str:
        """The network that is sampled: the teacher with its solver, or a student with its distiller
        and chain."""
        sampling = trial.config.sampling
        distill = trial.config.distill
        if sampling.model == "teacher":
            return f"teacher, {sampling.solver}"
        return f"student {distill.shown}{distill.chain_text()}"

    def line_label(self, trial: Trial) -> str:
        """The network with every swept setting that concerns it, except seed and number of
        steps."""
        left_out = {"sampling.steps", "sampling.model", "sampling.solver", "distill.kind", "seed"}
        if trial.config.distill.chain:
            left_out.add("distill.intervals")
        teacher = trial.config.sampling.model == "teacher"
        parts = [self.network_label(trial)]
        for key, value in trial.shown_overrides.items():
            concerns = not (teacher and key.startswith("distill."))
            if key not in left_out and concerns:
                parts.append(f"{self.names[key]} {plain(value)}")
        return ", ".join(parts)

    def numbers(self, trial: Trial) -> dict[str, float]:
        """The finite numbers among the measurements of `trial`."""
        measured = self.records.measured(trial).items()
        return {k: v for k, v in measured if isinstance(v, int | float) and math.isfinite(v)}

    def features_of(self, trial: Trial) -> str:
        """The features of the numbers of `trial`, with the data set if there are several: numbers on
        other features do not compare. Empty if it is not measured."""
        return scale_of(self.records, trial)

    def spread(self, trials: Iterable[Trial], name: str) -> Spread | None:
        """Mean and standard deviation of a measure; trials that share one evaluation count once.
        None if no trial has it."""
        by_key = {trial.key: self.numbers(trial) for trial in trials}
        measured = [numbers for numbers in by_key.values() if name in numbers]
        if not measured:
            return None
        values = [numbers[name] for numbers in measured]
        std = stdev(values) if len(values) > 1 else measured[0].get(f"{name}_std", 0.0)
        return Spread(mean(values), std, len(values))

    def _grouped(self, key_of: Callable[[Trial], str]) -> list[SeedGroup]:
        """Trials with the same key and features as one group; an unmeasured trial joins the first
        measured group of its key."""
        plan, endings = self.records.state
        features_of = {trial.index: self.features_of(trial) for trial in plan.trials}
        default_features: dict[str, str] = {}
        for trial in plan.trials:
            if features_of[trial.index]:
                default_features.setdefault(key_of(trial), features_of[trial.index])
        members: dict[tuple[str, str], list[Trial]] = defaultdict(list)
        for trial in plan.trials:
            key = key_of(trial)
            features = features_of[trial.index] or default_features.get(key, "")
            members[key, features].append(trial)
        groups = []
        for (_, features), trials in members.items():
            statuses = tuple(endings[trial.index].status for trial in trials)
            groups.append(SeedGroup(tuple(trials), statuses, features, self._spreads(trials)))
        return sorted(groups, key=self._rank)

    def _spreads(self, trials: list[Trial]) -> dict[str, Spread]:
        spreads = {}
        for name in dict.fromkeys(name for trial in trials for name in self.numbers(trial)):
            spread = self.spread(trials, name)
            if spread is not None:
                spreads[name] = spread
        return spreads

    def _rank(self, group: SeedGroup) -> tuple[bool, int, float]:
        value = group.values.get(self.metric)
        if value is None:
            return True, 0, 0.0
        scale = self.features.index(group.features) if group.features else -1
        return False, scale, value.mean if self.small_is_good else -value.mean


def display_name(measure: str) -> str:
    """The name of a measure in figures and tables: FID, KID, log likelihood."""
    return measure.upper() if measure in (*LOGARITHMIC, "nfe") else measure.replace("_", " ")


def is_logarithmic(metric: str, values: Iterable[float]) -> bool:
    """Whether the axis of `metric` is logarithmic; a KID estimate, for one, can be negative."""
    return metric in LOGARITHMIC and all(value > 0 for value in values)


def _text_of(overrides: dict[str, Any], without: tuple[str, ...]) -> str:
    return json.dumps({k: v for k, v in overrides.items() if k not in without})
