"""The values of one swept setting against one of them, at each combination of the other settings: where
does it help, where does it harm, and where can nothing be told?"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from orchestrator.fields.field_types import SMALL_IS_GOOD
from orchestrator.plan.plan import SEED, Plan, plain, short_key
from orchestrator.sweeps.intervals import Interval, Intervals
from orchestrator.sweeps.measured import RATIOS, Setting, deciding, settings_of
from orchestrator.sweeps.ranking import metric_of
from orchestrator.sweeps.records import Records

BETTER, WORSE, TIE = "better", "worse", "tie"
DISAGREE = "features disagree"  # told apart by one feature extractor alone, or each prefers another
UNKNOWN = "unknown"  # no interval: one sampling of one training


@dataclass(frozen=True)
class Versus:
    """A setting against the one that differs from it in the compared setting alone.

    `others`: the other swept settings, by short name. `value`: that of the compared setting. `ratio`:
    of the measure, or the difference where measures are not distances; `second_ratio`: by the second
    feature extractor, if there is one. `result`: BETTER, WORSE, TIE, DISAGREE or UNKNOWN."""

    others: dict[str, Any]
    value: Any
    trials: list[int]
    measure: Interval
    ratio: Interval
    second_ratio: Interval | None
    result: str


def versus(records: Records, key: str, reference: Any, metric: str | None = None) -> list[Versus]:
    """Each measured setting against the one with `reference` as its value of the swept setting `key`,
    in the order of the trials; settings without such a partner are left out. `metric`: by default
    that of the sweep. Raises ValueError for a key that is not swept, a value that it does not have and
    a metric that was not measured."""
    swept_metric, small_is_good = metric_of(records)
    if metric is None:
        metric = swept_metric
    elif metric != swept_metric:
        small_is_good = metric in SMALL_IS_GOOD
    key = _full_key(records.plan, key)
    by_scale: dict[str, list[_Decided]] = defaultdict(list)
    for scale, setting in settings_of(records, metric):
        values = deciding(setting.trials[0])
        if key in values:
            by_scale[scale].append(_Decided(setting, values))
    if not by_scale:
        raise ValueError(f"metric: got {metric}, which no trial that has {key} has measured")
    known = [each.values[key] for settings in by_scale.values() for each in settings]
    if reference not in known:
        listed = ", ".join(dict.fromkeys(map(plain, known)))
        raise ValueError(f"reference: got {reference}, expected one of {listed}")
    found: list[Versus] = []
    for settings in by_scale.values():
        for group in _groups(settings, key, reference):
            found += _compared(group, key, metric in RATIOS, small_is_good)
    return sorted(found, key=lambda each: each.trials[0])


class _Decided(NamedTuple):
    """A setting with the swept values that decide what it measured."""

    setting: Setting
    values: dict[str, Any]

    def alike(self, other: "_Decided", key: str) -> bool:
        """Whether they differ in nothing but `key` of what both have."""
        shared = self.values.keys() & other.values.keys()
        return all(self.values[k] == other.values[k] for k in shared if k != key)


def _full_key(plan: Plan, key: str) -> str:
    """The swept key with this name, dotted or short."""
    meant = [each for each in plan.swept if key in (each, short_key(each)) and each != SEED]
    if len(meant) != 1:
        swept = ", ".join(each for each in plan.swept if each != SEED) or "none"
        raise ValueError(f"key: got {key}, expected a swept setting; swept are: {swept}")
    return meant[0]


def _groups(settings: Sequence[_Decided], key: str, reference: Any) -> Iterator[list[_Decided]]:
    """Each setting with the value `reference`, and after it those that differ from it in `key` alone,
    where both have the same swept settings."""
    groups: list[list[_Decided]] = []
    for each in settings:
        known = [group[0].values for group in groups]
        if each.values[key] == reference and each.values not in known:
            groups.append([each])  # a teacher stands once for every value of distill
    for each in settings:
        if each.values[key] == reference:
            continue
        meant = [group for group in groups if each.alike(group[0], key)]
        if len(meant) > 1:
            raise ValueError(
                f"reference: {len(meant)} settings with {plain(reference)} differ from "
                f"{each.setting.full_name} in {key} alone; expected one: compare with another value"
            )
        for group in meant:
            group.append(each)
    yield from groups


def _compared(
    group: Sequence[_Decided], key: str, ratios: bool, small_is_good: bool
) -> Iterator[Versus]:
    """All others of a group against its first. The spread is that of this group alone."""
    settings = [each.setting for each in group]
    partner = settings[0]
    first = Intervals([s.sample for s in settings], ratios=ratios, small_is_good=small_is_good)
    seconds = [s.second for s in settings if s.second is not None]
    second = Intervals(seconds, ratios=ratios, small_is_good=small_is_good)
    for setting, values in group[1:]:
        intervals = [first.against(setting.sample, partner.sample)]
        if setting.second is not None and partner.second is not None:
            intervals.append(second.against(setting.second, partner.second))
        yield Versus(
            {short_key(k): v for k, v in values.items() if k != key},
            values[key],
            [trial.index for trial in setting.trials],
            first.level(setting.sample),
            intervals[0],
            intervals[1] if len(intervals) > 1 else None,
            _result(intervals, first.ratios, small_is_good),
        )


def _result(ratios: Sequence[Interval], compared_by_ratios: bool, small_is_good: bool) -> str:
    """What the intervals, one of each feature extractor, say together."""
    if not all(ratio.known for ratio in ratios):
        return UNKNOWN
    equal = 1.0 if compared_by_ratios else 0.0
    below = [ratio.high < equal for ratio in ratios]
    above = [ratio.low > equal for ratio in ratios]
    if all(below):
        return BETTER if small_is_good else WORSE
    if all(above):
        return WORSE if small_is_good else BETTER
    return DISAGREE if any(below) or any(above) else TIE
