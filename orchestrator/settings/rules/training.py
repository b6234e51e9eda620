"""Rules of training and distillation that hold for all kinds."""

from orchestrator.fields.rule import rule
from orchestrator.settings.experiment import Experiment


@rule("teacher.batch_size", "cluster.workers")
def _teacher_batch_divides(experiment: Experiment) -> str | None:
    return _divides(experiment.teacher.batch_size, experiment.cluster.workers)


@rule("distill.batch_size", "cluster.workers")
def _distill_batch_divides(experiment: Experiment) -> str | None:
    return _divides(experiment.distill.batch_size, experiment.cluster.workers)


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
    distill = experiment.distill
    return _parts(distill.accumulate, distill.batch_size, experiment.cluster.workers)


def _parts(parts: int, batch_size: int, workers: int) -> str | None:
    images = batch_size // workers
    if batch_size % workers or images % parts == 0:
        return None
    return f"got {parts}, expected a divisor of {images}, the images of a worker's step"
