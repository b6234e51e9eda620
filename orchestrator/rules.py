"""What settings demand of each other. Each rule names the fields it reads, and runs whenever those are sound."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from orchestrator.blocks import DATA_FACTS, Model
from orchestrator.faults import Fault, describe

if TYPE_CHECKING:
    from orchestrator.config import Experiment

Check = Callable[["Experiment"], str | None]


@dataclass(frozen=True)
class Rule:
    """`check` returns what is wrong with the first of the fields `needs`, None where nothing is.

    `pairing`: the settings are sound one by one, only this combination cannot be; a sweep skips it and says so.
    """

    needs: tuple[str, ...]
    check: Check
    pairing: bool


RULES: list[Rule] = []


def rule(*needs: str, pairing: bool = False) -> Callable[[Check], Check]:
    def add(check: Check) -> Check:
        RULES.append(Rule(needs, check, pairing))
        return check

    return add


def broken(experiment: "Experiment", unsound: Iterable[str] = ()) -> list[Fault]:
    """The faults, without a source, of every rule whose fields are not under a key in `unsound`."""
    unsound = set(unsound)
    faults = []
    for each in RULES:
        if any(key == bad or key.startswith(f"{bad}.") for key in each.needs for bad in unsound):
            continue
        message = each.check(experiment)
        if message is not None:
            faults.append(Fault("", each.needs[0], message, involves=each.needs, pairing=each.pairing))
    return faults


def level_sizes(size: int, levels: int) -> list[int]:
    """The image size at each level of a U-Net; shorter than `levels` where a size cannot be halved."""
    sizes = [size]
    while len(sizes) < levels and sizes[-1] % 2 == 0 and sizes[-1] >= 4:
        sizes.append(sizes[-1] // 2)
    return sizes


def _sizes(experiment: "Experiment") -> list[int]:
    size = DATA_FACTS[experiment.data.name].size // experiment.model.patch
    return level_sizes(size, len(experiment.model.multipliers))


def _listed(values: Iterable[int]) -> str:
    return ", ".join(map(str, values))


@rule("model.patch", "data.name")
def _patch_divides(experiment: "Experiment") -> str | None:
    size, patch = DATA_FACTS[experiment.data.name].size, experiment.model.patch
    return f"got {patch}, expected a divisor of the image size, {size}" if size % patch else None


@rule("teacher.batch_size", "cluster.workers")
def _teacher_batch_divides(experiment: "Experiment") -> str | None:
    return _divides(experiment.teacher.batch_size, experiment.cluster.workers)


@rule("distill.batch_size", "cluster.workers")
def _distill_batch_divides(experiment: "Experiment") -> str | None:
    return _divides(experiment.distill.batch_size, experiment.cluster.workers)


def _divides(batch_size: int, workers: int) -> str | None:
    return f"got {batch_size}, expected a multiple of cluster.workers, {workers}" if batch_size % workers else None


@rule("model.multipliers", "model.patch", "data.name")
def _levels_fit(experiment: "Experiment") -> str | None:
    multipliers, sizes = experiment.model.multipliers, _sizes(experiment)
    if len(sizes) == len(multipliers):
        return None
    got = f"got {describe(multipliers)}, expected at most {len(sizes)} levels"
    return f"{got}: images of {experiment.data.name} have the sizes {_listed(sizes)}, and {sizes[-1]} cannot be halved"


@rule("model.attention", "model.multipliers", "model.patch", "data.name")
def _attention_at_level_sizes(experiment: "Experiment") -> str | None:
    sizes, attention = _sizes(experiment), experiment.model.attention
    if set(attention) <= set(sizes):
        return None
    return f"got {describe(attention)}, expected image sizes of this U-Net for {experiment.data.name}: {_listed(sizes)}"


@rule("model.head_channels", "model.attention", "model.channels", "model.multipliers", "model.patch", "data.name")
def _heads_divide_widths(experiment: "Experiment") -> str | None:
    model = experiment.model
    for size, width in _attended_widths(model, _sizes(experiment)):
        if width > model.head_channels and width % model.head_channels:
            got = f"got {model.head_channels}, expected a divisor of {width}"
            return f"{got}: attention at size {size} has {width} channels (model.channels, model.multipliers)"
    return None


def _attended_widths(model: Model, sizes: list[int]) -> Iterable[tuple[int, int]]:
    """(size, channels) of each block with attention: a level's own, and those that resample from its neighbours."""
    widths = [model.channels * multiplier for multiplier in model.multipliers]
    for level, size in enumerate(sizes):
        if size in model.attention:
            yield from ((size, width) for width in widths[max(0, level - 1) : level + 2])


@rule("distill.teacher_steps", "distill.intervals")
def _chain_divides_teacher(experiment: "Experiment") -> str | None:
    steps, first = experiment.distill.teacher_steps, experiment.distill.intervals[0]
    return f"got {steps}, expected a multiple of {first}, the first of distill.intervals" if steps % first else None


@rule("distill.steps", "distill.intervals")
def _steps_per_interval(experiment: "Experiment") -> str | None:
    return _one_per_interval(experiment.distill.steps, experiment.distill.intervals)


@rule("distill.lr", "distill.intervals")
def _lr_per_interval(experiment: "Experiment") -> str | None:
    return _one_per_interval(experiment.distill.lr, experiment.distill.intervals)


def _one_per_interval(values: float | tuple[float, ...], intervals: tuple[int, ...]) -> str | None:
    if not isinstance(values, tuple) or len(values) == len(intervals):
        return None
    what = f"one value, or {len(intervals)}: one for each of distill.intervals {describe(intervals)}"
    return f"got {describe(values)}, expected {what}"


@rule("distill.guidance", "teacher.label_dropout")
def _distilled_guidance_has_labels(experiment: "Experiment") -> str | None:
    return _guided(experiment.distill.guidance, experiment.teacher.label_dropout)


@rule("sampling.guidance", "sampling.model", "teacher.label_dropout")
def _sampled_guidance_has_labels(experiment: "Experiment") -> str | None:
    if experiment.sampling.model == "student":
        return None  # a student takes no guidance at all: said below
    return _guided(experiment.sampling.guidance, experiment.teacher.label_dropout)


def _guided(guidance: float, label_dropout: float | None) -> str | None:
    """Guidance compares the network with and without its label, so it has to have been trained on both."""
    if guidance == 1 or label_dropout:
        return None
    why = f"guidance needs teacher.label_dropout > 0, got {describe(label_dropout)}"
    return f"got {describe(guidance)}, expected 1: {why}"


@rule("sampling.labels", "data.name")
def _labels_are_classes(experiment: "Experiment") -> str | None:
    labels, classes = experiment.sampling.labels, DATA_FACTS[experiment.data.name].classes
    asked = labels if isinstance(labels, tuple) else () if labels is None else (labels,)
    if all(label < classes for label in asked):
        return None
    return f"got {describe(labels)}, expected 0 to {classes - 1}: {experiment.data.name} has {classes} classes"


@rule("sampling.labels", "teacher.label_dropout")
def _labels_are_trained(experiment: "Experiment") -> str | None:
    labels = experiment.sampling.labels
    if labels is None or experiment.teacher.label_dropout is not None:
        return None
    return f"got {describe(labels)}, expected null: teacher.label_dropout null trains without labels"


@rule("sampling.steps", "sampling.model", "distill.intervals", pairing=True)
def _student_has_steps(experiment: "Experiment") -> str | None:
    steps, intervals = experiment.sampling.steps, experiment.distill.intervals
    if experiment.sampling.model == "teacher" or steps in intervals:
        return None
    return f"got {steps}, expected one of {_listed(intervals)}: a student has the step counts of distill.intervals"


@rule("sampling.solver", "sampling.model", pairing=True)
def _student_takes_euler(experiment: "Experiment") -> str | None:
    if experiment.sampling.model == "teacher" or experiment.sampling.solver == "euler":
        return None
    return f"got {describe(experiment.sampling.solver)}, expected euler: a student's step is one Euler step"


@rule("sampling.guidance", "sampling.model", pairing=True)
def _student_is_not_guided(experiment: "Experiment") -> str | None:
    if experiment.sampling.model == "teacher" or experiment.sampling.guidance == 1:
        return None
    return f"got {describe(experiment.sampling.guidance)}, expected 1: a student has its guidance from distill.guidance"


@rule("evaluation.features", "data.name")
def _features_know_the_data(experiment: "Experiment") -> str | None:
    features, data = experiment.evaluation.features, experiment.data.name
    if features in ("auto", "inception-v3-compat", f"{data}-cnn-v1"):
        return None
    return f"got {describe(features)}, expected auto, {data}-cnn-v1 or inception-v3-compat for data {data}"


@rule("evaluation.weights_sha256", "evaluation.weights")
def _checksum_has_a_file(experiment: "Experiment") -> str | None:
    orphan = experiment.evaluation.weights_sha256 is not None and experiment.evaluation.weights is None
    return "got a checksum, expected null: evaluation.weights names no file" if orphan else None


@rule("sweep.metric", "evaluation.metrics")
def _metric_is_measured(experiment: "Experiment") -> str | None:
    sweep, metrics = experiment.sweep, experiment.evaluation.metrics
    if sweep is None or sweep.metric in metrics:
        return None
    return f"got {describe(sweep.metric)}, expected one of evaluation.metrics: {', '.join(metrics)}"
