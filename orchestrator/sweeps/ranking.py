"""Which trials are best. Numbers on other data, or of other features, are on other scales and never
ranked together."""

from collections import defaultdict

from orchestrator.plan.plan import Trial
from orchestrator.sweeps.records import Records

SMALL_IS_GOOD = ("fid", "kid", "w2")


def metric_of(records: Records) -> tuple[str, bool]:
    """What ranks the trials, and whether small is good."""
    experiment = records.plan.experiment
    if experiment.sweep is not None:
        return experiment.sweep.metric, experiment.sweep.mode == "min"
    metric = experiment.evaluation.metrics[0]
    return metric, metric in SMALL_IS_GOOD


def scale_of(records: Records, trial: Trial) -> str:
    """What the numbers of a measured trial compare within: the name of its features and, where the
    sweep has several data sets, of its data. Empty where it is not measured."""
    features = str(records.measured(trial).get("fid_features") or "")
    return features and records.plan.on_data(features, trial)


def rankings(records: Records) -> dict[str, list[tuple[int, float]]]:
    """For each scale, in the order of the trials, its measured trials with their metric, best
    first."""
    metric, small_is_good = metric_of(records)
    found: dict[str, list[tuple[int, float]]] = defaultdict(list)
    for trial in records.plan.trials:
        value = records.measured(trial).get(metric)
        if value is not None:
            found[scale_of(records, trial)].append((trial.index, value))
    return {
        k: sorted(each, key=lambda v: v[1] if small_is_good else -v[1]) for k, each in found.items()
    }


def best_so_far(records: Records) -> dict[str, str]:
    """The best measured trial of each scale in words; the one scale of most sweeps is called by no
    name."""
    metric, found = metric_of(records)[0], rankings(records)
    return {
        scale
        if len(found) > 1
        else "": f"{metric} {best[0][1]:.4g}: {records.plan.trials[best[0][0]].title}"
        for scale, best in found.items()
    }
