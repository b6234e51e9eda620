"""The verdict of a sweep: for each number of steps the best setting, with an interval, its ratio to a
yardstick, and the settings that cannot be told from it."""

import json
import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from orchestrator.fields import options
from orchestrator.host import machine
from orchestrator.plan.plan import Trial, plain, short_key
from orchestrator.settings.entries import LISTS
from orchestrator.sweeps.front import ON, FrontPoint, front
from orchestrator.sweeps.intervals import (
    IMAGES,
    LEVEL,
    SAMPLINGS,
    TRAININGS,
    Interval,
    Intervals,
)
from orchestrator.sweeps.measured import (
    RATIOS,
    Setting,
    concerning,
    count_text,
    network_of,
    settings_of,
)
from orchestrator.sweeps.ranking import metric_of
from orchestrator.sweeps.records import Records

BEST, TIE = "best", "tie"
LISTED = 3  # ties that a line names; the others are counted
VALUES = 12  # of a swept setting: with more, its best ones alone say something
LINES = 8  # about single values, in the terminal
SEEDS = 3  # training seeds that are proposed where there is one


@dataclass(frozen=True)
class Answer:
    """The best of the settings of a question, such as those of 4 steps."""

    question: str
    setting: str
    trials: list[int]
    value: Interval
    ratio: Interval | None  # to the yardstick; None: there is none, or it is itself
    second: Interval | None  # by the second features
    second_ratio: Interval | None
    second_prefers: str  # the setting that is better by the second features beyond noise
    compared: int
    ties: list[str]
    ratios: bool
    tied_trials: list[int] = field(default_factory=list)
    next_best: str = ""
    next_ratio: Interval | None = None  # of the next best to the best; None: it is the only one

    def text(self) -> str:
        """The answer in one sentence."""
        parts = [f"{self.question}: {self.setting}, {self.value.text()}"]
        if self.ratio is not None:
            parts.append(_against(self.ratio, self.ratios))
        if self.second is not None:
            by_second = f"by the second features {self.second.text()}"
            if self.second_ratio is not None:
                by_second += f", {_against(self.second_ratio, self.ratios)}"
            parts.append(by_second)
        return "; ".join(parts)

    def remarks(self) -> list[str]:
        """What limits the answer: ties, and features that disagree."""
        return [*self._named_ties(), *self.doubts()]

    def doubts(self) -> list[str]:
        """Where the two feature extractors disagree."""
        lines = []
        if self.second_prefers:
            lines.append(f"the second features prefer {self.second_prefers}")
        if self._one_sided():
            lines.append("below 1 by one of the two feature extractors alone: not a result")
        return lines

    def _named_ties(self) -> Iterator[str]:
        if self.ties:
            named = "; ".join(self.ties[:LISTED])
            more = len(self.ties) - LISTED
            rest = f"; and {more} more" if more > 0 else ""
            yield f"cannot be told from it: {named}{rest} (of {self.compared} compared)"
        elif self.next_ratio is not None and self.next_ratio.known:
            than = "times it" if self.ratios else "from it"
            yield f"next: {self.next_best}, {self.next_ratio.text()} {than} (of {self.compared} compared)"

    def _one_sided(self) -> bool:
        if not self.ratios or self.ratio is None or self.second_ratio is None:
            return False
        below = [r.known and r.high < 1 for r in (self.ratio, self.second_ratio)]
        return below[0] != below[1]


@dataclass(frozen=True)
class ValueRow:
    """The best of the settings that share a `value` of a swept setting. `rank`: BEST, TIE where it
    cannot be told from the best value, or empty. `ties`: the settings with this value that cannot be
    told from their best."""

    value: str
    setting: str  # what varies beside the value
    trials: list[int]
    measure: Interval
    rank: str
    ties: list[str]

    def text(self) -> str:
        """Such as 25 (speed 2) 0.41 [0.39, 0.43], best."""
        beside = f" ({self.setting})" if self.setting else ""
        rank = f", {self.rank}" if self.rank else ""
        return f"{self.value}{beside} {self.measure.text()}{rank}"


@dataclass(frozen=True)
class ByValue:
    """A swept setting at one number of steps: the best of the others at each of its values, in the
    order of the file."""

    name: str
    key: str
    steps: int
    rows: list[ValueRow]

    def text(self) -> str:
        """All rows in one line."""
        rows = "; ".join(row.text() for row in self.rows)
        return f"by {self.name}, {count_text(self.steps)}: {rows}"


@dataclass(frozen=True)
class Verdict:
    """What a sweep answers on one scale. `yardstick`: what others are compared with, and its measure;
    None: nothing. `of_real`: the FID of a perfect model. `source`: where the intervals come from.
    `missing`: what they leave out."""

    metric: str
    scale: str
    answers: list[Answer]
    yardstick: tuple[str, Interval] | None
    of_real: float | None
    source: str
    missing: list[str] = field(default_factory=list)
    by_value: list[ByValue] = field(default_factory=list)
    front: list[FrontPoint] = field(default_factory=list)  # by several metrics

    def lines(self) -> list[str]:
        """The verdict as text, one thought a line."""
        lines = [f"{self.metric} on {self.scale}" if self.scale else self.metric]
        for answer in self.answers:
            lines.append(f"  {answer.text()}")
            lines += [f"    {remark}" for remark in answer.remarks()]
        lines += self._front_lines()
        lines += [f"  {part.text()}" for part in self.by_value[:LINES]]
        if len(self.by_value) > LINES:
            lines.append(
                f"  {len(self.by_value) - LINES} more such lines: report.html, verdict.json"
            )
        lines += [f"  {note}" for note in self.notes()]
        lines += [f"    {missing}" for missing in self.missing]
        return lines

    def _front_lines(self) -> Iterator[str]:
        if self.front:
            yield f"  {self.front_title()}"
            yield from (f"    {point.text()}" for point in self.front[:LINES])
        if len(self.front) > LINES:
            yield f"    {len(self.front) - LINES} more: report.html, verdict.json"

    def front_title(self) -> str:
        """By what the front is one, and how many settings are on it."""
        on = [point for point in self.front if point.rank == ON]
        near = len(self.front) - len(on)
        ties = f", {near} more cannot be told from it" if near else ""
        *names, last = self.front[0].values
        settings = "1 setting" if len(on) == 1 else f"{len(on)} settings"
        return f"Pareto front by {', '.join(names)} and {last}: {settings}{ties}"

    def notes(self) -> list[str]:
        """What the answers are compared with, and where their intervals come from."""
        notes = []
        if self.yardstick is not None:
            name, value = self.yardstick
            notes.append(f"yardstick: {name}, {value.text()}")
        if self.of_real is not None:
            notes.append(f"a perfect model would score {self.of_real:.3g} with as many images")
        return [*notes, f"intervals: {self.source}"]


def verdicts(records: Records) -> list[Verdict]:
    """The verdict on each scale, in the order of the trials."""
    records = records.snapshot()
    metric, small_is_good = metric_of(records)
    by_scale: dict[str, list[Setting]] = defaultdict(list)
    for scale, setting in settings_of(records, metric):
        by_scale[scale].append(setting)
    return [
        _Judge(records, metric, small_is_good, scale, settings).verdict()
        for scale, settings in by_scale.items()
    ]


def to_json(found: Sequence[Verdict]) -> str:
    """The verdicts as JSON; an unknown bound is null."""
    return json.dumps([_plain(asdict(verdict)) for verdict in found], indent=1) + "\n"


class _Judge:
    """The settings of one scale, and how they compare."""

    def __init__(
        self,
        records: Records,
        metric: str,
        small_is_good: bool,
        scale: str,
        settings: Sequence[Setting],
    ) -> None:
        self.records = records
        self.metric = metric
        self.small_is_good = small_is_good
        self.scale = scale
        self.settings = settings
        ratios = metric in RATIOS
        self.first = Intervals(
            [s.sample for s in settings], ratios=ratios, small_is_good=small_is_good
        )
        seconds = [s.second for s in settings if s.second is not None]
        self.second = Intervals(seconds, ratios=ratios, small_is_good=small_is_good)
        self.yardstick = self._yardstick()

    def verdict(self) -> Verdict:
        steps = sorted({setting.steps for setting in self.settings})
        by_steps = [(count_text(n), [s for s in self.settings if s.steps == n]) for n in steps]
        yardstick = self.yardstick
        named = None
        if yardstick is not None:
            named = (yardstick.full_name, self.first.level(yardstick.sample))
        return Verdict(
            self.metric,
            self.scale,
            [self._answer(question, settings) for question, settings in by_steps],
            named,
            self._of_real(),
            self._source(),
            list(self._missing()),
            [part for n in steps for part in self._by_value(n)],
            self._front(),
        )

    def _front(self) -> list[FrontPoint]:
        """The Pareto front, if the sweep has several metrics."""
        sweep = self.records.plan.experiment.sweep
        if sweep is None or len(sweep.objectives) == 1:
            return []
        return front(self.records, self.settings, sweep.objectives)

    def _by_value(self, steps: int) -> Iterator[ByValue]:
        """For each swept setting with few values the best at each of them."""
        settings = [setting for setting in self.settings if setting.steps == steps]
        own = {id(setting): concerning(setting.trials[0]) for setting in settings}
        several = len({network_of(setting.trials[0]) for setting in settings}) > 1
        for key in dict.fromkeys(key for values in own.values() for key in values):
            groups: dict[str, list[Setting]] = defaultdict(list)
            for setting in settings:
                if key in own[id(setting)]:
                    groups[plain(own[id(setting)][key])].append(setting)
            if not 1 < len(groups) <= VALUES or not self._listed(key):
                continue
            others = [k for k in dict.fromkeys(k for v in own.values() for k in v) if k != key]
            yield ByValue(short_key(key), key, steps, self._rows(groups, others, named=several))

    def _listed(self, key: str) -> bool:
        """Whether the sweep lists the values of `key`, instead of drawing numbers between limits."""
        sweep = self.records.plan.experiment.sweep
        return sweep is not None and key in sweep.space and sweep.space[key].kind in LISTS

    def _rows(
        self, groups: Mapping[str, Sequence[Setting]], others: Sequence[str], named: bool
    ) -> list[ValueRow]:
        """A row for each value; `others`: the settings that vary with it, `named`: networks too."""
        bests = {value: self._best(settings) for value, settings in groups.items()}
        first = self._best(list(bests.values()))
        rows = []
        for value, best in bests.items():
            values = concerning(best.trials[0])
            beside = [network_of(best.trials[0])] if named else []
            beside += [f"{short_key(k)} {plain(values[k])}" for k in others if k in values]
            rank = BEST if best is first else ""
            if best is not first and self.first.tied(best.sample, first.sample, len(bests) - 1):
                rank = TIE
            rest = [setting for setting in groups[value] if setting is not best]
            ties = [s.name for s in rest if self.first.tied(s.sample, best.sample, len(rest))]
            measure = self.first.level(best.sample)
            trials = [trial.index for trial in best.trials]
            rows.append(ValueRow(value, ", ".join(beside), trials, measure, rank, ties))
        return rows

    def _best(self, settings: Sequence[Setting], by_second: bool = False) -> Setting:
        sign = 1 if self.small_is_good else -1

        def measure(setting: Setting) -> float:
            if by_second:
                assert setting.second is not None, "settings of one scale have the same metrics"
                return sign * self.second.level(setting.second).value
            return sign * self.first.level(setting.sample).value

        return min(settings, key=measure)

    def _answer(self, question: str, settings: Sequence[Setting]) -> Answer:
        best = self._best(settings)
        others = [setting for setting in settings if setting is not best]
        tied = [s for s in others if self.first.tied(s.sample, best.sample, len(others))]
        following = self._best(others) if others else None
        yardstick = self.yardstick
        ratio = second = second_ratio = None
        against = yardstick is not None and yardstick is not best
        if against and yardstick is not None:
            ratio = self.first.against(best.sample, yardstick.sample)
        if best.second is not None:
            second = self.second.level(best.second)
            if against and yardstick is not None and yardstick.second is not None:
                second_ratio = self.second.against(best.second, yardstick.second)
        return Answer(
            question,
            best.name,
            [trial.index for trial in best.trials],
            self.first.level(best.sample),
            ratio,
            second,
            second_ratio,
            self._second_prefers(best, settings),
            len(others),
            [setting.name for setting in tied],
            self.first.ratios,
            [trial.index for setting in tied for trial in setting.trials],
            "" if following is None else following.name,
            None if following is None else self.first.against(following.sample, best.sample),
        )

    def _second_prefers(self, best: Setting, settings: Sequence[Setting]) -> str:
        if best.second is None or any(setting.second is None for setting in settings):
            return ""
        other = self._best(settings, by_second=True)
        assert other.second is not None, "all settings have it"
        tied = self.second.tied(best.second, other.second, len(settings) - 1)
        return "" if other is best or tied else other.name

    def _yardstick(self) -> Setting | None:
        """The setting of `sweep.baseline`, or the best teacher."""
        sweep = self.records.plan.experiment.sweep
        if sweep is not None and sweep.baseline:
            meant = [s for s in self.settings if _is(s.trials[0], sweep.baseline)]
        else:
            meant = [setting for setting in self.settings if not setting.taught]
        return self._best(meant) if meant else None

    def _of_real(self) -> float | None:
        if self.metric != "fid":
            return None
        trials = [trial for setting in self.settings for trial in setting.trials]
        values = [self.records.measured(trial).get("fid_of_real") for trial in trials]
        known = [float(value) for value in values if value is not None]
        return float(np.mean(known)) if known else None

    def _source(self) -> str:
        level = f"{100 * LEVEL:.0f} %"
        if self.first.source == TRAININGS:
            seeds = sorted({len(s.sample.values) for s in self.settings})
            counts = " or ".join(map(str, seeds))
            return f"{level}, from {counts} training seeds, ratios paired by seed"
        if self.first.source == IMAGES:
            return f"{level}, from resampled images (bootstrap, networks in pairs)"
        if self.first.source == SAMPLINGS:
            return f"{level}, from several samplings of each network"
        return "none: one sampling of each network (evaluation.seeds)"

    def _missing(self) -> Iterator[str]:
        """What the intervals do not contain, and what it takes to have it."""
        if self.first.source == TRAININGS:
            return
        minutes = self._minutes() * (SEEDS - 1)
        seeds = ", ".join(map(str, range(SEEDS)))
        yield (
            "one training seed: the spread between trainings is not known; on digits it is larger "
            "than that between samplings"
        )
        more = f"sweep.space.seed={{grid: [{seeds}]}}"
        how = options.setting(more) if options.from_python() else f"--set '{more}'"
        yield f"{SEEDS} seeds would take about {max(1, math.ceil(minutes))} more minutes: {how}"

    def _minutes(self) -> float:
        """What the stages of this sweep took, as if they had been run at once where they may."""
        store = self.records.store
        stages = [s for s in self.records.plan.stages() if store.done(s.key)]
        sweep = self.records.plan.experiment.sweep
        limit = None if sweep is None else sweep.max_concurrent_trials
        at_once = min(limit or machine.cpus(), machine.cpus())
        return sum(store.seconds(stage.key) for stage in stages) / 60 / max(1, at_once)


def _is(trial: Trial, baseline: Mapping[str, Any]) -> bool:
    return all(trial.config.value(key) == value for key, value in baseline.items())


def _against(ratio: Interval, ratios: bool) -> str:
    if ratios:
        return f"{ratio.text()} times the yardstick"
    return f"{ratio.text()} more than the yardstick"


def _plain(value: Any) -> Any:
    """`value` for JSON: NaN as null."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value
