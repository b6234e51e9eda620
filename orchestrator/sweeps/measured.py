"""Settings that were measured: the trials that differ in nothing but their seed, on one scale."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from orchestrator.plan.plan import SEED, Trial, plain, short_key
from orchestrator.store import layout
from orchestrator.sweeps.intervals import Resamples, Sample
from orchestrator.sweeps.ranking import scale_of, setting_of
from orchestrator.sweeps.records import Records

STEPS, MODEL, SOLVER = "sampling.steps", "sampling.model", "sampling.solver"
RATIOS = ("fid", "w2")  # distances, which are compared by their ratios
SECOND = {"fid": "fid_second"}


@dataclass(frozen=True)
class Setting:
    """Trials that differ in nothing but their seed, on one scale."""

    trials: tuple[Trial, ...]
    sample: Sample
    second: Sample | None = None

    @property
    def steps(self) -> int:
        """The number of sampling steps."""
        return self.trials[0].config.sampling.steps

    @property
    def taught(self) -> bool:
        """Whether a student is sampled."""
        return self.trials[0].config.sampling.model == "student"

    @property
    def name(self) -> str:
        """The network and the swept settings, without the number of steps."""
        return name_of(self.trials[0])

    @property
    def full_name(self) -> str:
        """The name with the number of steps."""
        return f"{self.name}, {count_text(self.steps)}"


def name_of(trial: Trial) -> str:
    """The network of a trial and its swept settings, without seed and number of steps."""
    settings = [f"{short_key(key)} {plain(value)}" for key, value in concerning(trial).items()]
    return ", ".join([network_of(trial), *settings])


def concerning(trial: Trial) -> dict[str, Any]:
    """The swept settings that concern the network of a trial, without those that say which network
    it is, seed and number of steps."""
    return {
        key: value for key, value in deciding(trial).items() if key not in (STEPS, MODEL, SOLVER)
    }


def deciding(trial: Trial) -> dict[str, Any]:
    """The swept settings that decide what a trial measures, without the seed: of a teacher none of
    its distillation."""
    student = trial.config.sampling.model == "student"
    return {
        key: value
        for key, value in trial.shown_overrides.items()
        if key != SEED and (student or not key.startswith("distill."))
    }


def network_of(trial: Trial) -> str:
    """student, or teacher and its solver."""
    sampling = trial.config.sampling
    return "student" if sampling.model == "student" else f"teacher {sampling.solver}"


def count_text(steps: int) -> str:
    """1 step, 2 steps."""
    return "1 step" if steps == 1 else f"{steps} steps"


def settings_of(records: Records, metric: str) -> Iterator[tuple[str, Setting]]:
    """The measured settings with their scales, in the order of their first trials."""
    members: dict[tuple[str, str], list[Trial]] = {}
    for trial in records.plan.trials:
        value = records.measured(trial).get(metric)
        if isinstance(value, int | float) and math.isfinite(value):
            key = (scale_of(records, trial), setting_of(trial))
            members.setdefault(key, []).append(trial)
    second = SECOND.get(metric)
    for (scale, _), trials in members.items():
        of_second = None
        if second is not None and all(second in records.measured(trial) for trial in trials):
            of_second = sample_of(records, trials, second)
        yield scale, Setting(tuple(trials), sample_of(records, trials, metric), of_second)


def sample_of(records: Records, trials: Sequence[Trial], metric: str) -> Sample:
    """What `trials`, which differ in their seed alone, have measured of a metric."""
    values: dict[int, float] = {}
    resamples: dict[int, Resamples] = {}
    samplings: dict[int, tuple[float, int]] = {}
    for trial in trials:
        measured = records.measured(trial)
        seed = trial.config.seed
        values[seed] = float(measured[metric])
        if len(trials) > 1:  # the spread between trainings decides
            continue
        found = _resamples(records, trial, metric)
        if found is not None:
            resamples[seed] = found
        if f"{metric}_std" in measured:
            count = trial.config.evaluation.seeds
            samplings[seed] = (float(measured[f"{metric}_std"]), count)
    return Sample(values, resamples, samplings)


def _resamples(records: Records, trial: Trial, metric: str) -> Resamples | None:
    content = records.resampled(trial)
    names = (metric, f"{metric}{layout.OWN_SUFFIX}")
    if not all(name in content for name in names):
        return None
    return Resamples(*(np.array(content[name], dtype=float) for name in names))
