"""The trials of the sweep block: each is a complete single run.

A *point* has one value for each setting that is drawn (choice, uniform, loguniform, int). Each point
is combined with the whole grid of the other settings. A grid search has one point, which is empty;
`optuna_points` draws those of random and optuna, `sobol_points` those of sobol."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from itertools import islice, product
from typing import Any, NamedTuple

from orchestrator.fields.faults import ConfigError, Fault
from orchestrator.settings.entries import SpaceEntry
from orchestrator.settings.experiment import Experiment
from orchestrator.settings.expressions import Expression
from orchestrator.settings.loading import examine
from orchestrator.settings.space import in_space, owned, sweepable, with_values
from orchestrator.settings.sweep_block import Sweep

Point = Mapping[str, Any]
ATTEMPTS = 1000  # draws for one point: if all fail, the constraints leave almost no space
DIGITS = 6  # significant digits of a drawn number: more are noise in tables and names


@dataclass(frozen=True)
class TrialSpec:
    """Trial number `index`: `config` is the base with `overrides` (dotted key -> value) and without
    a sweep. `point`: the number of the point that it belongs to."""

    index: int
    overrides: dict[str, Any]
    config: Experiment
    point: int = 0


class Known(NamedTuple):
    """A point and the metrics of its trials, in the order of `sweep.metric`; None if they are not
    measured yet."""

    point: Point
    values: tuple[float, ...] | None


@dataclass(frozen=True)
class Skipped:
    """A combination that cannot be run, and the reason."""

    overrides: dict[str, Any]
    reason: str


@dataclass
class Expansion:
    """The trials of all points so far, and the skipped combinations."""

    trials: list[TrialSpec] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)
    points: list[Point] = field(default_factory=list)
    # the settings of all combinations so far: conditions make some of them equal
    seen: set[str] = field(default_factory=set)

    def copy(self) -> "Expansion":
        """A copy to which trials can be added."""
        return Expansion(list(self.trials), list(self.skipped), list(self.points), set(self.seen))


class PointSpace:
    """The points of an experiment's sweep, and their trials."""

    def __init__(self, experiment: Experiment, source: str) -> None:
        assert experiment.sweep is not None
        self.sweep: Sweep = experiment.sweep
        self.seed, self.source = experiment.seed, source
        self.base = {**experiment.model_dump(mode="json"), "sweep": None}
        entries = self.sweep.space
        self.grid = {key: entry.values for key, entry in entries.items() if entry.kind == "grid"}
        self.drawn = {key: entry for key, entry in entries.items() if entry.kind != "grid"}
        settings = sweepable(Experiment)
        self.conditions = {
            key: Expression(text, settings) for key, text in self.sweep.conditions.items()
        }
        self.constraints = [Expression(text, settings) for text in self.sweep.constraints]

    def add(self, point: Point, found: Expansion) -> int:
        """Add the trials of `point`, combined with the grid, to `found`; returns their number.
        Raises ConfigError for invalid combinations."""
        faults: list[Fault] = []
        before = len(found.trials)
        for values in product(*self.grid.values()):
            combination = {**dict(zip(self.grid, values, strict=True)), **point}
            written = self._conditioned({key: combination[key] for key in self.sweep.space})
            written = owned(self.base, written)  # a swept key varies only for kinds that have it
            config, trial_faults = examine(with_values(self.base, written))
            # as the run has them: 25 is 25.0
            overrides = {key: config.value(key) for key in self.sweep.space}
            invalid = [in_space(fault, written) for fault in trial_faults if not fault.pairing]
            faults += [replace(fault, source=self.source) for fault in invalid]
            text = json.dumps(overrides)
            if invalid or text in found.seen:
                continue
            found.seen.add(text)
            reason = "; ".join(f"{fault.key}: {fault.message}" for fault in trial_faults)
            reason = reason or self._forbidden(config)
            if reason:
                found.skipped.append(Skipped(overrides, reason))
            else:
                spec = TrialSpec(len(found.trials), overrides, config, len(found.points))
                found.trials.append(spec)
        if faults:
            raise ConfigError(faults)
        found.points.append(point)
        return len(found.trials) - before

    def add_first(self, draws: Iterable[Point], found: Expansion) -> bool:
        """Add the trials of the first of `draws` that is new and can be run; False if none of
        ATTEMPTS is. Raises ConfigError if there is not even a first point, or for invalid
        combinations."""
        skipped = list(found.skipped)
        for point in islice(draws, ATTEMPTS):
            if self.add(point, found):
                found.skipped = skipped  # rejected draws are not combinations of the sweep
                return True
            found.points.pop()
        if found.trials:
            return False
        reason = f"; the last: {found.skipped[-1].reason}" if found.skipped else ""
        what = f"none of {ATTEMPTS} draws can be run{reason}"
        raise ConfigError([Fault(self.source, "sweep.space", what)])

    def _conditioned(self, values: dict[str, Any]) -> dict[str, Any]:
        """`values` without those whose condition does not hold with the values before them; these
        keep the value of the base."""
        varied: dict[str, Any] = {}
        settings = self.base
        for key, value in values.items():
            condition = self.conditions.get(key)
            if condition is None or self._holds(condition, f"sweep.conditions.{key}", settings):
                varied[key] = value
                settings = with_values(settings, {key: value})
        return varied

    def _forbidden(self, config: Experiment) -> str:
        """The first constraint that `config` violates, for a message; empty if there is none."""
        plain = config.model_dump(mode="json")
        for constraint in self.constraints:
            if not self._holds(constraint, "sweep.constraints", plain):
                return f"constraint {constraint.text}"
        return ""

    def _holds(self, expression: Expression, key: str, settings: Mapping[str, Any]) -> bool:
        try:
            return expression.holds(lambda name: _at(settings, name))
        except ValueError as e:
            raise ConfigError([Fault(self.source, key, f"{expression.text}: {e}")]) from None


def _at(settings: Mapping[str, Any], key: str) -> Any:
    block, _, field = key.partition(".")
    return settings[block].get(field) if field else settings[block]


def rounded(entry: SpaceEntry, value: float) -> float:
    """A number drawn from the range of `entry` with DIGITS significant digits, within the range."""
    low, high = entry.values
    return min(max(float(f"{value:.{DIGITS}g}"), low), high)


def within(entry: SpaceEntry, value: Any) -> bool:
    """Whether `entry` can draw `value`."""
    if entry.kind == "choice":
        return value in entry.values
    return isinstance(value, int | float) and entry.values[0] <= value <= entry.values[1]
