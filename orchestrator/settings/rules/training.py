"""What training and distilling demand of their settings."""

from itertools import pairwise

from orchestrator.settings.experiment import Experiment
from orchestrator.settings.faults import describe
from orchestrator.settings.rules.rule import rule


@rule("teacher.augment", "model.kind")
def _augmented_networks_are_told(experiment: Experiment) -> str | None:
    if experiment.teacher.augment == 0 or experiment.model.kind != "mlp":
        return None
    return f"got {experiment.teacher.augment:g}, expected 0: an mlp sees points, not images"


@rule("teacher.batch_size", "cluster.workers")
def _teacher_batch_divides(experiment: Experiment) -> str | None:
    return _divides(experiment.teacher.batch_size, experiment.cluster.workers)


@rule("distill.batch_size", "cluster.workers")
def _distill_batch_divides(experiment: Experiment) -> str | None:
    return _divides(experiment.distill.batch_size, experiment.cluster.workers)


def _divides(batch_size: int, workers: int) -> str | None:
    return (
        f"got {batch_size}, expected a multiple of cluster.workers, {workers}"
        if batch_size % workers
        else None
    )


@rule("teacher.accumulate", "teacher.batch_size", "cluster.workers")
def _teacher_parts_divide(experiment: Experiment) -> str | None:
    return _parts(
        experiment.teacher.accumulate, experiment.teacher.batch_size, experiment.cluster.workers
    )


@rule("distill.accumulate", "distill.batch_size", "cluster.workers")
def _distill_parts_divide(experiment: Experiment) -> str | None:
    return _parts(
        experiment.distill.accumulate, experiment.distill.batch_size, experiment.cluster.workers
    )


def _parts(parts: int, batch_size: int, workers: int) -> str | None:
    each = batch_size // workers
    if batch_size % workers or each % parts == 0:
        return None
    return f"got {parts}, expected a divisor of {each}, the images of a worker's step"


@rule("distill.teacher_steps", "distill.intervals", "distill.kind")
def _chain_divides_teacher(experiment: Experiment) -> str | None:
    steps, first = experiment.distill.teacher_steps, experiment.distill.intervals[0]
    if experiment.distill.kind != "endpoint" or steps % first == 0:
        return None
    return f"got {steps}, expected a multiple of {first}, the first of distill.intervals"


@rule("distill.intervals", "distill.kind")
def _progressive_halves(experiment: Experiment) -> str | None:
    intervals = experiment.distill.intervals
    if experiment.distill.kind != "progressive" or all(a == 2 * b for a, b in pairwise(intervals)):
        return None
    return f"got {describe(intervals)}, expected each to be half of the one before: distill.kind is progressive"


@rule("distill.times", "distill.intervals", "distill.kind")
def _students_grid_fits(experiment: Experiment) -> str | None:
    times, first = experiment.distill.times, experiment.distill.intervals[0]
    if times is None:
        return None
    if experiment.distill.kind != "endpoint":
        return (
            f"got {describe(times)}, expected null: a grid may be given to endpoint students only"
        )
    return (
        None
        if len(times) == first + 1
        else f"got {len(times)} times, expected {first + 1}: distill.intervals"
    )


@rule("distill.chained", "distill.kind")
def _only_endpoint_is_unchained(experiment: Experiment) -> str | None:
    wrong = not experiment.distill.chained and experiment.distill.kind != "endpoint"
    return f"got false, expected true: distill.kind is {experiment.distill.kind}" if wrong else None


@rule("distill.huber", "distill.kind")
def _only_some_measure_a_distance(experiment: Experiment) -> str | None:
    huber, kind = experiment.distill.huber, experiment.distill.kind
    if huber is None or kind in ("endpoint", "progressive", "consistency"):
        return None
    return f"got {huber:g}, expected null: distill.kind is {kind}; it is for endpoint, progressive, consistency"


@rule("distill.steps", "distill.intervals")
def _steps_per_interval(experiment: Experiment) -> str | None:
    return _one_per_interval(experiment.distill.steps, experiment.distill.intervals)


@rule("distill.lr", "distill.intervals")
def _lr_per_interval(experiment: Experiment) -> str | None:
    return _one_per_interval(experiment.distill.lr, experiment.distill.intervals)


def _one_per_interval(values: float | tuple[float, ...], intervals: tuple[int, ...]) -> str | None:
    if not isinstance(values, tuple) or len(values) == len(intervals):
        return None
    what = (
        f"one value, or {len(intervals)}: one for each of distill.intervals {describe(intervals)}"
    )
    return f"got {describe(values)}, expected {what}"
