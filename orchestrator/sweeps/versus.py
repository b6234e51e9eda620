"""The values of one swept setting against one of them, at each combination of the other settings: where
does it help, where does it harm, and where can nothing be told?"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from orchestrator.fields.field_types import SMALL_IS_GOOD
from orchestrator.plan.plan import SEED, Plan, plain, short_key
from orchestrator.sweeps.intervals import Interval, Intervals
from orchestrator.sweeps.measured import RATIOS, Setting, settings_of
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
    by_scale: dict[str, list[Setting]] = defaultdict(list)
    for scale, setting in settings_of(records, metric):
        if key in _concerning(setting):
            by_scale[scale].append(setting)
    if not by_scale:
        raise ValueError(f"metric: got {metric}, which no trial that has {key} has measured")
    values = [_concerning(s)[key] for settings in by_scale.values() for s in settings]
    if reference not in values:
        known = ", ".join(dict.fromkeys(map(plain, values)))
        raise ValueError(f"reference: got {reference}, expected one of {known}")
    found: list[Versus] = []
    for settings in by_scale.values():
        for group in _groups(settings, key, reference):
            found += _compared(group, key, metric in RATIOS, small_is_good)
    return sorted(found, key=lambda each: each.trials[0])


def _full_key(plan: Plan, key: str) -> str:
    """The swept key with this name, dotted or short."""
    meant = [each for each in plan.swept if key in (each, short_key(each)) and each != SEED]
    if len(meant) != 1:
        swept = ", ".join(each for each in plan.swept if each != SEED) or "none"
        raise ValueError(f"key: got {key}, expected a swept setting; swept are: {swept}")
    return meant[0]


def _concerning(setting: Setting) -> dict[str, Any]:
    """The swept settings that decide what was measured, without the seed."""
    return {
        key: value
        for key, value in setting.trials[0].shown_overrides.items()
        if key != SEED and (setting.taught or not key.startswith("distill."))
    }


def _groups(settings: Sequence[Setting], key: str, reference: Any) -> Iterator[list[Setting]]:
    """Each setting with the value `reference`, and after it those that differ from it in `key` alone,
    as far as both have the same swept settings."""
    partners: list[Setting] = []
    for setting in settings:
        known = [_concerning(partner) for partner in partners]
        if _concerning(setting)[key] == reference and _concerning(setting) not in known:
            partners.append(setting)  # a teacher stands once for every value of distill
    groups: dict[int, list[Setting]] = {id(partner): [partner] for partner in partners}
    for setting in settings:
        if _concerning(setting)[key] == reference:
            continue
        meant = [partner for partner in partners if _alike(setting, partner, key)]
        if len(meant) > 1:
            raise ValueError(
                f"reference: {len(meant)} settings with {plain(reference)} differ from "
                f"{setting.full_name} in {key} alone; expected one: compare with another value"
            )
        for partner in meant:
            groups[id(partner)].append(setting)
    yield from groups.values()


def _alike(one: Setting, other: Setting, key: str) -> bool:
    """Whether two settings differ in nothing but `key` of what both have."""
    ours, theirs = _concerning(one), _concerning(other)
    return all(ours[k] == theirs[k] for k in ours.keys() & theirs.keys() if k != key)


def _compared(
    group: Sequence[Setting], key: str, ratios: bool, small_is_good: bool
) -> Iterator[Versus]:
    """All others of a group against its first. The spread is that of this group alone."""
    partner = group[0]
    first = Intervals([s.sample for s in group], ratios=ratios, small_is_good=small_is_good)
    seconds = [s.second for s in group if s.second is not None]
    second = Intervals(seconds, ratios=ratios, small_is_good=small_is_good)
    for setting in group[1:]:
        intervals = [first.against(setting.sample, partner.sample)]
        if setting.second is not None and partner.second is not None:
            intervals.append(second.against(setting.second, partner.second))
        others = {short_key(k): v for k, v in _concerning(setting).items() if k != key}
        yield Versus(
            others,
            _concerning(setting)[key],
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
