"""Points drawn from a sweep's space by Optuna's samplers: at random, or where earlier trials were
good (TPE).

Point number k comes from (seed, k) and, for TPE, from what is known then: a rerun of the same
command draws on."""

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
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

from orchestrator.fields.faults import ConfigError, Fault
from orchestrator.plan.points import Expansion, Known, Point, PointSpace
from orchestrator.settings.entries import SpaceEntry

DIRECTIONS = {"min": StudyDirection.MINIMIZE, "max": StudyDirection.MAXIMIZE}
LOG = "loguniform"
ATTEMPTS = 1000  # draws for one point: beyond, the constraints leave next to nothing
DIGITS = 6  # significant ones of a drawn number: more is noise in tables and names


def add_all(space: PointSpace, found: Expansion) -> None:
    """Draw at random until `found` has `num_trials` points. A space of fewer points ends
    earlier."""
    assert space.sweep.num_trials is not None
    while len(found.points) < space.sweep.num_trials and add_next(space, found, []):
        pass


def add_next(space: PointSpace, found: Expansion, known: Sequence[Known]) -> bool:
    """Draw the next point that can be run and is new, and add its trials to `found`; False where
    there is none left.

    Raises ConfigError where not even a first one can be found, or values are wrong in combination.
    """
    number, skipped = len(found.points), list(found.skipped)
    for attempt in range(ATTEMPTS):
        with _silent():
            point = _draw(space, number, attempt, known)
        if space.add(point, found):
            found.skipped = skipped  # what was drawn in vain is nobody's combination
            return True
        found.points.pop()
    if found.trials:
        return False
    reason = f"; the last: {found.skipped[-1].reason}" if found.skipped else ""
    raise ConfigError(
        [Fault(space.source, "sweep.space", f"none of {ATTEMPTS} draws can be run{reason}")]
    )


@contextmanager
def _silent() -> Iterator[None]:
    """Optuna neither logs nor warns of what is experimental in it; afterwards it does as it did."""
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
    distributions = {key: _distribution(entry) for key, entry in space.drawn.items()}
    study = optuna.create_study(
        direction=DIRECTIONS[space.sweep.mode], sampler=_sampler(space, seed)
    )
    for each in known:
        state = TrialState.RUNNING if each.value is None else TrialState.COMPLETE
        params = {key: _inward(space.drawn[key], value) for key, value in each.point.items()}
        study.add_trial(
            create_trial(params=params, distributions=distributions, value=each.value, state=state)
        )
    params = study.ask(distributions).params
    return {key: _outward(space.drawn[key], value) for key, value in params.items()}


def _sampler(space: PointSpace, seed: int) -> BaseSampler:
    if space.sweep.search == "random":
        return RandomSampler(seed)
    return TPESampler(
        seed=seed, multivariate=True, constant_liar=True
    )  # points in the making count as poor ones


def _distribution(entry: SpaceEntry) -> BaseDistribution:
    if entry.kind == "choice":
        return CategoricalDistribution(range(len(entry.values)))  # by number: values may be lists
    low, high = entry.values
    return (
        IntDistribution(low, high)
        if entry.kind == "int"
        else FloatDistribution(low, high, log=entry.kind == LOG)
    )


def _outward(entry: SpaceEntry, value: Any) -> Any:
    if entry.kind == "choice":
        return entry.values[value]
    return (
        value
        if entry.kind == "int"
        else min(max(float(f"{value:.{DIGITS}g}"), entry.values[0]), entry.values[1])
    )


def _inward(entry: SpaceEntry, value: Any) -> Any:
    return entry.values.index(value) if entry.kind == "choice" else value
