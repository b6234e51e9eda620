"""Ranks trials. Numbers on different data, or of different features, are on different scales and
are never ranked together."""

import json
from collections import defaultdict
from collections.abc import Container, Sequence
from statistics import mean
from typing import NamedTuple

from orchestrator.fields.field_types import SMALL_IS_GOOD
from orchestrator.plan.plan import SEED, Trial, programme, short_key
from orchestrator.sweeps.records import Records


def metric_of(records: Records) -> tuple[str, bool]:
    """The metric that ranks the trials, and whether a small value is good."""
    experiment = records.plan.experiment
    if experiment.sweep is not None:
        sweep = experiment.sweep
        return sweep.ranked_by, sweep.objectives[sweep.ranked_by]
    metric = experiment.evaluation.metrics[0]
    return metric, metric in SMALL_IS_GOOD


def scale_of(records: Records, trial: Trial) -> str:
    """The scale on which the numbers of a measured trial are comparable: the name of its features
    and, if the sweep has several data sets, of its data. Empty where it is not measured."""
    features = str(records.measured(trial).get("fid_features") or "")
    return features and records.plan.on_data(features, trial)


def rankings(records: Records) -> dict[str, list[tuple[int, float]]]:
    """For each scale its measured trials as (index, metric), best first. Scales are in the order of
    their first trials."""
    metric, small_is_good = metric_of(records)
    sign = 1 if small_is_good else -1
    by_scale: dict[str, list[tuple[int, float]]] = defaultdict(list)
    for trial in records.plan.trials:
        value = records.measured(trial).get(metric)
        if value is not None:
            by_scale[scale_of(records, trial)].append((trial.index, value))
    return {
        scale: sorted(trials, key=lambda trial: sign * trial[1])
        for scale, trials in by_scale.items()
    }


class Progress(NamedTuple):
    """A measured trial of a search: its index, its metric, and the best up to it."""

    trial: int
    value: float
    best: float


def is_drawn(records: Records) -> bool:
    """Whether points of the sweep are drawn in sequence, so that their order means
    something."""
    sweep = records.plan.experiment.sweep
    return records.plan.goal == "sweep" and sweep is not None and sweep.search != "grid"


def progress(records: Records) -> dict[str, list[Progress]]:
    """For each scale its measured trials in the order in which they were drawn."""
    better = min if metric_of(records)[1] else max
    found: dict[str, list[Progress]] = {}
    for scale, ranked in rankings(records).items():
        steps: list[Progress] = []
        for index, value in sorted(ranked):
            best = better(value, steps[-1].best) if steps else value
            steps.append(Progress(index, value, best))
        found[scale] = steps
    return found


def best_so_far(records: Records) -> dict[str, str]:
    """The best measured setting of each scale, as a line of text: the mean over its training seeds;
    if there is one scale only, as in most sweeps, its name is empty."""
    metric, _ = metric_of(records)
    ranked = rankings(records)
    lines = {}
    for scale, trials in ranked.items():
        best, value = best_of(records, [index for index, _ in trials])
        trial = best[0]
        text = f"{metric} {value:.4g}: {trial.title}"
        if len(best) > 1:
            others = [
                f"{short_key(key)} {programme(setting) or setting}"
                for key, setting in trial.shown_overrides.items()
                if key != SEED
            ]
            named = ", ".join(others) or records.plan.experiment.name
            text = f"{metric} {value:.4g}: {named} (mean of {len(best)} seeds)"
        lines[scale if len(ranked) > 1 else ""] = text
    return lines


def best_setting(records: Records, among: Container[int]) -> list[Trial]:
    """The trials of the best setting of those `among`, one a seed, on the scale with most of them;
    none if none is measured."""
    by_scale = [
        [index for index, _ in trials if index in among] for trials in rankings(records).values()
    ]
    chosen = max(by_scale, key=len, default=[])
    return best_of(records, chosen)[0] if chosen else []


def best_of(records: Records, indices: Sequence[int]) -> tuple[list[Trial], float]:
    """The trials of the setting with the best mean over its seeds, those with the best value first,
    and the mean. `indices`: measured trials of one scale, best first."""
    metric, small_is_good = metric_of(records)
    by_setting: dict[str, list[Trial]] = defaultdict(list)
    for index in indices:
        trial = records.plan.trials[index]
        by_setting[setting_of(trial)].append(trial)
    means = {
        key: mean(records.measured(trial)[metric] for trial in trials)
        for key, trials in by_setting.items()
    }
    best = (min if small_is_good else max)(means, key=lambda key: means[key])
    return by_setting[best], means[best]


def setting_of(trial: Trial) -> str:
    """The swept settings of a trial without its seed, as JSON: trials that share them form one
    setting."""
    return json.dumps({key: value for key, value in trial.overrides.items() if key != SEED})
