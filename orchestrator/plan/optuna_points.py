"""Points drawn from a sweep's space by Optuna's samplers: at random, or by TPE near good earlier
trials.

Point number k is determined by (seed, k) and, for TPE, by the results known at that time, so that
the same command continues an earlier run."""

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import count
from random import Random
from typing import Any

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.study import StudyDirection
from optuna.trial import TrialState, create_trial

from orchestrator.plan.points import Expansion, Known, Point, PointSpace, rounded
from orchestrator.settings.entries import SpaceEntry

LOG = "loguniform"


def add_all(space: PointSpace, found: Expansion) -> None:
    """Draw at random until `found` has `num_trials` points, or all points of the space."""
    assert space.sweep.num_trials is not None
    while len(found.points) < space.sweep.num_trials and add_next(space, found, []):
        pass


def add_next(space: PointSpace, found: Expansion, known: Sequence[Known]) -> bool:
    """Draw the next new point that can be run, and add its trials to `found`; False if none is
    left.

    Raises ConfigError if there is not even a first one, or for invalid combinations."""
    number = len(found.points)
    return space.add_first((_draw(space, number, k, known) for k in count()), found)


@contextmanager
def silent() -> Iterator[None]:
    """Silence Optuna's log and its warnings about experimental features; restore them afterwards."""
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        with warnings.catch_warnings(
            action="ignore", category=optuna.exceptions.ExperimentalWarning
        ):
            yield
    finally:
        optuna.logging.set_verbosity(before)


def _draw(space: PointSpace, number: int, attempt: int, known: Sequence[Known]) -> Point:
    seed = Random(f"{space.seed}:sweep:{number}:{attempt}").getrandbits(32)
    distributions = {key: distribution(entry) for key, entry in space.drawn.items()}
    with silent():
        directions = [
            StudyDirection.MINIMIZE if small_is_good else StudyDirection.MAXIMIZE
            for small_is_good in space.sweep.objectives.values()
        ]
        study = optuna.create_study(directions=directions, sampler=_sampler(space, seed))
        for point, values in known:
            state = TrialState.RUNNING if values is None else TrialState.COMPLETE
            params = {key: inward(space.drawn[key], value) for key, value in point.items()}
            study.add_trial(
                create_trial(params=params, distributions=distributions, values=values, state=state)
            )
        params = study.ask(distributions).params
    return {key: _outward(space.drawn[key], value) for key, value in params.items()}


def _sampler(space: PointSpace, seed: int) -> BaseSampler:
    if space.sweep.search == "random":
        return RandomSampler(seed)
    if space.sweep.sampler == "gp":  # imports torch and scipy
        from optuna.samplers import GPSampler

        return GPSampler(seed=seed, deterministic_objective=False, warn_independent_sampling=False)
    # constant_liar: points whose trials still run count as poor
    return TPESampler(seed=seed, multivariate=True, constant_liar=True)


def distribution(entry: SpaceEntry) -> BaseDistribution:
    """Optuna's distribution of a setting; for choices and grids of the index of its values."""
    if entry.kind in ("choice", "grid"):
        return CategoricalDistribution(range(len(entry.values)))  # by index: values may be lists
    low, high = entry.values
    if entry.kind == "int":
        return IntDistribution(low, high)
    return FloatDistribution(low, high, log=entry.kind == LOG)


def _outward(entry: SpaceEntry, value: Any) -> Any:
    """The value of a setting, from Optuna's parameter."""
    if entry.kind == "choice":
        return entry.values[value]
    return value if entry.kind == "int" else rounded(entry, value)


def inward(entry: SpaceEntry, value: Any) -> Any:
    """Optuna's parameter, from the value of a setting."""
    return entry.values.index(value) if entry.kind in ("choice", "grid") else value
