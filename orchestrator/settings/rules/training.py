"""Rules of training and distillation that hold for all kinds."""

from orchestrator.fields.rule import rule
from orchestrator.settings.experiment import Experiment


@rule("teacher.batch_size", "cluster.workers")
def _teacher_batch_divides(experiment: Experiment) -> str | None:
    return _divides(experiment.teacher.batch_size, experiment.cluster.workers)


@rule("distill.batch_size", "cluster.workers")
def _distill_batch_divides(experiment: Experiment) -> str | None:
    for key, block in experiment.distill.trainings():
        fault = _divides(block.batch_size, experiment.cluster.workers)
        if fault is not None:
            return _at(key, "batch_size", fault)
    return None


def _at(key: str, name: str, fault: str) -> str:
    """`fault`, with its place if it is not that of the block."""
    return fault if key == "distill" else f"{key}.{name}: {fault}"


def _divides(batch_size: int, workers: int) -> str | None:
    if batch_size % workers == 0:
        return None
    return f"got {batch_size}, expected a multiple of cluster.workers, {workers}"


@rule("teacher.accumulate", "teacher.batch_size", "cluster.workers")
def _teacher_parts_divide(experiment: Experiment) -> str | None:
    teacher = experiment.teacher
    return _parts(teacher.accumulate, teacher.batch_size, experiment.cluster.workers)


@rule("distill.accumulate", "distill.batch_size", "cluster.workers")
def _distill_parts_divide(experiment: Experiment) -> str | None:
    for key, block in experiment.distill.trainings():
        fault = _parts(block.accumulate, block.batch_size, experiment.cluster.workers)
        if fault is not None:
            return _at(key, "accumulate", fault)
    return None


def _parts(parts: int, batch_size: int, workers: int) -> str | None:
    images = batch_size // workers
    if batch_size % workers or images % parts == 0:
        return None
    return f"got {parts}, expected a divisor of {images}, the images of a worker's step"
