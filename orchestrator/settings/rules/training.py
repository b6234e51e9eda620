"""Rules of training and distillation that hold for all kinds."""

from orchestrator.fields.faults import describe
from orchestrator.fields.rule import rule
from orchestrator.settings.blocks import Cluster
from orchestrator.settings.experiment import Experiment


@rule("teacher.batch_size", "cluster.workers")
def _teacher_batch_divides(experiment: Experiment) -> str | None:
    return _divides(experiment.teacher.batch_size, experiment.cluster)


@rule("distill.batch_size", "cluster.workers")
def _distill_batch_divides(experiment: Experiment) -> str | None:
    for key, block in experiment.distill.trainings():
        fault = _divides(block.batch_size, experiment.cluster)
        if fault is not None:
            return _at(key, "batch_size", fault)
    return None


def _at(key: str, name: str, fault: str) -> str:
    """`fault`, with its place if it is not that of the block."""
    return fault if key == "distill" else f"{key}.{name}: {fault}"


def _divides(batch_size: int, cluster: Cluster) -> str | None:
    if isinstance(cluster.workers, dict) or batch_size % cluster.workers == 0:
        return None
    return f"got {batch_size}, expected a multiple of cluster.workers, {cluster.workers}"


@rule("cluster.workers", "teacher.batch_size", "teacher.accumulate")
def _a_range_has_a_divisor(experiment: Experiment) -> str | None:
    blocks = [block for _, block in experiment.distill.trainings()]
    trainings = [experiment.teacher, *blocks]
    if experiment.cluster.group_sizes(trainings) or not isinstance(
        experiment.cluster.workers, dict
    ):
        return None
    images = sorted({training.batch_size // training.accumulate for training in trainings})
    what = "a range with a number that divides"
    return f"got {describe(experiment.cluster.workers)}, expected {what} {_and(images)} images"


def _and(numbers: list[int]) -> str:
    return " and ".join(map(str, numbers))


@rule("teacher.accumulate", "teacher.batch_size", "cluster.workers")
def _teacher_parts_divide(experiment: Experiment) -> str | None:
    teacher = experiment.teacher
    return _parts(teacher.accumulate, teacher.batch_size, experiment.cluster)


@rule("distill.accumulate", "distill.batch_size", "cluster.workers")
def _distill_parts_divide(experiment: Experiment) -> str | None:
    for key, block in experiment.distill.trainings():
        fault = _parts(block.accumulate, block.batch_size, experiment.cluster)
        if fault is not None:
            return _at(key, "accumulate", fault)
    return None


def _parts(parts: int, batch_size: int, cluster: Cluster) -> str | None:
    """For a range of workers only what holds for each number is checked here."""
    workers = 1 if isinstance(cluster.workers, dict) else cluster.workers
    images = batch_size // workers
    if batch_size % workers or images % parts == 0:
        return None
    return f"got {parts}, expected a divisor of {images}, the images of a worker's step"


@rule("teacher.weights_sha256", "teacher.weights")
def _a_checksum_has_a_file(experiment: Experiment) -> str | None:
    teacher = experiment.teacher
    if teacher.weights_sha256 is None or teacher.weights is not None:
        return None
    return "got a checksum, expected null: teacher.weights names no file"


@rule("teacher.weights_names", "teacher.weights")
def _names_are_those_of_a_file(experiment: Experiment) -> str | None:
    teacher = experiment.teacher
    if not teacher.weights_names or teacher.weights is not None:
        return None
    return "got names, expected {}: teacher.weights names no file"


@rule("teacher.averages", "teacher.weights")
def _weights_have_no_averages(experiment: Experiment) -> str | None:
    teacher = experiment.teacher
    if teacher.weights is None or not teacher.averages:
        return None
    return f"got {describe(teacher.averages)}, expected []: teacher.weights is not trained here"


@rule("teacher.augment", "teacher.weights")
def _weights_take_no_augmentation(experiment: Experiment) -> str | None:
    teacher = experiment.teacher
    if teacher.weights is None or not teacher.augment:
        return None
    return f"got {teacher.augment}, expected 0: teacher.weights is not trained here"


@rule("evaluation.every", "teacher.weights")
def _nothing_is_looked_at(experiment: Experiment) -> str | None:
    if experiment.teacher.weights is None or experiment.evaluation.every is None:
        return None
    return f"got {experiment.evaluation.every}, expected null: teacher.weights is not trained here"
