"""A run for each setting of a sweep over several training seeds: the means over its seeds, so that
MLflow's table and Compare show them."""

import hashlib
from collections import defaultdict
from dataclasses import dataclass
from statistics import mean, stdev
from typing import Any

from orchestrator.plan.plan import Trial
from orchestrator.sweeps.ranking import SEED, metric_of, scale_of, setting_of
from orchestrator.sweeps.records import Records
from orchestrator.tracking.entities import AGGREGATE, begin_and_end_ms, comparability_tags
from orchestrator.tracking.names import Names, differing
from orchestrator.tracking.parameters import of_trial
from orchestrator.tracking.runs import RUN_NAME, NewRun, truncated

SPREAD = ("fid", "fid_second", "kid", "w2", "log_likelihood")  # measures with a `..._std`
SEEDS = "seeds"  # the metric that counts the seeds, and the tag that lists their trials


@dataclass(frozen=True)
class Mean:
    """A setting: its measured `trials`, one a seed, of `planned` ones."""

    trials: tuple[Trial, ...]
    planned: int
    name: str

    @property
    def key(self) -> str:
        """What identifies the setting in its sweep: 10 hexadecimal digits."""
        return hashlib.sha256(setting_of(self.trials[0]).encode()).hexdigest()[:10]

    @property
    def seeds(self) -> str:
        """The numbers of the trials, as a text."""
        return ", ".join(str(trial.index) for trial in self.trials)


def means(records: Records) -> list[Mean]:
    """The settings of which at least one seed is measured; none unless the sweep has several seeds."""
    plan = records.plan
    if SEED not in differing(plan.trials):
        return []
    by_setting: dict[str, list[Trial]] = defaultdict(list)
    for trial in plan.trials:
        by_setting[setting_of(trial)].append(trial)
    names, found = Names(plan, seeds=False), []
    for trials in by_setting.values():
        # a measured one may have been set aside since
        measured = tuple(t for t in trials if records.measured(t) and records.store.done(t.key))
        if measured:
            # numbers on different scales have no mean; the data of one setting are of one
            scale = scale_of(records, measured[0])
            same = tuple(trial for trial in measured if scale_of(records, trial) == scale)
            found.append(Mean(same, len(trials), _name(names.of(same[0]), len(same), len(trials))))
    return found


def _name(setting: str, measured: int, planned: int) -> str:
    count = str(planned) if measured == planned else f"{measured} of {planned}"
    return f"{setting}, mean of {count} seed{'s' * (planned != 1)}"


def values(records: Records, found: Mean) -> dict[str, float]:
    """The mean of each measure that every seed has, the standard deviation between the seeds of those
    in SPREAD and of the sweep's metric, and the number of seeds. Seeds that share one evaluation
    count once."""
    by_key = {trial.key: records.measured(trial) for trial in found.trials}
    measured = list(by_key.values())
    spread = {*SPREAD, metric_of(records)[0]}
    result: dict[str, float] = {}
    for name in measured[0]:
        numbers = [float(own[name]) for own in measured if _number(own.get(name))]
        # the `..._std` of one trial is that between its sampling seeds
        if len(numbers) < len(measured) or name == "samples" or name.endswith("_std"):
            continue
        result[name] = mean(numbers)
        if name in spread and len(numbers) > 1:
            result[f"{name}_std"] = stdev(numbers)
    return {**result, SEEDS: len(measured)}


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


class MeanRuns:
    """The runs of the means of one sweep."""

    def __init__(self, client: Any, records: Records, experiment: str) -> None:
        self.client, self.records = client, records
        self.experiment = experiment
        self._runs: dict[str, tuple[str, str, str]] = {}  # by setting: run id, seeds, name

    def found(self, run: Any) -> None:
        """Take notice of a run that MLflow has; one that was interrupted, or of a setting that is
        there already, is deleted."""
        key = run.data.tags["setting_key"]
        if run.info.status == "RUNNING" or key in self._runs:
            self.client.delete_run(run.info.run_id)
        else:
            self._runs[key] = (run.info.run_id, run.data.tags[SEEDS], run.info.run_name)

    def publish(self, tags: dict[str, str]) -> None:
        """Log the means that MLflow does not have yet; `tags`: of every run."""
        for each in means(self.records):
            key, name = each.key, truncated(each.name, RUN_NAME)
            run_id, seeds, logged_name = self._runs.get(key, ("", "", ""))
            if run_id and len(seeds.split(", ")) > len(each.trials):
                self.client.delete_run(run_id)  # a result was lost: its steps would hide the others
                run_id = ""
            if not run_id:
                run_id = self._new(each, tags)
            elif seeds != each.seeds:
                self._log(run_id, each)
            if logged_name and logged_name != name:
                self.client.update_run(run_id, name=name)
            self._runs[key] = (run_id, each.seeds, name)

    def _new(self, each: Mean, tags: dict[str, str]) -> str:
        trial = each.trials[0]
        own = {"kind": AGGREGATE, "sweep_id": self.records.plan.id, "setting_key": each.key}
        tags = {**own, **tags, **comparability_tags(self.records, trial)}
        start, _ = self._times(each)
        run = NewRun(self.client, self.experiment, each.name, tags, start)
        run.params({k: v for k, v in of_trial(trial).items() if k != SEED})
        self._log(run.id, each)
        return run.id

    def _log(self, run_id: str, each: Mean) -> None:
        """Log the values; the number of seeds is the step, so that MLflow takes those of most seeds
        for the latest."""
        from mlflow.entities import Metric

        _, end = self._times(each)
        step = len(each.trials)
        logged = [Metric(k, v, end, step) for k, v in values(self.records, each).items()]
        self.client.log_batch(run_id, metrics=logged)
        self.client.set_tag(run_id, SEEDS, each.seeds)
        self.client.set_terminated(run_id, "FINISHED", end)

    def _times(self, each: Mean) -> tuple[int, int]:
        store = self.records.store
        times = [begin_and_end_ms(store.result(trial.key).manifest) for trial in each.trials]
        return min(start for start, _ in times), max(end for _, end in times)
