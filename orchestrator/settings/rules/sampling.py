"""What sampling and measuring demand of their settings: guidance, labels, step counts, features."""

from orchestrator.fields.faults import Fault, describe
from orchestrator.fields.rule import rule
from orchestrator.methods.feature_kind import FeatureKind
from orchestrator.settings.blocks import AUTO
from orchestrator.settings.experiment import Experiment

UNGUIDED = "expected 1: guidance needs labels, and {} has none"
UNLABELLED = "expected other metrics: {} has no labels"


@rule("distill.guidance", "teacher.label_dropout", "data.name")
def _distilled_guidance_has_labels(experiment: Experiment) -> str | None:
    return _guided(experiment.distill.guidance, experiment)


@rule("sampling.guidance", "sampling.model", "teacher.label_dropout", "data.name")
def _sampled_guidance_has_labels(experiment: Experiment) -> str | None:
    if experiment.sampling.model == "student":
        return None  # a student takes no guidance at all: said below
    return _guided(experiment.sampling.guidance, experiment)


def _guided(guidance: float, experiment: Experiment) -> str | None:
    """Guidance compares the network with and without its label, so it has to have been trained on
    both."""
    label_dropout, data = experiment.teacher.label_dropout, experiment.data
    if guidance == 1 or (label_dropout and data.facts.classes != 0):
        return None
    if data.facts.classes == 0:
        return f"got {describe(guidance)}, {UNGUIDED.format(data.name)}"
    why = f"guidance needs teacher.label_dropout > 0, got {describe(label_dropout)}"
    return f"got {describe(guidance)}, expected 1: {why}"


@rule("sampling.labels", "data.name")
def _labels_are_classes(experiment: Experiment) -> str | None:
    labels, classes = experiment.sampling.labels, experiment.data.facts.classes
    return None if classes is None else _labels_fault(labels, classes, experiment.data.name)


def class_faults(experiment: Experiment, classes: int) -> list[Fault]:
    """What is wrong with labels and guidance, without a source, for a folder, whose classes only
    reading it tells."""
    data, found = experiment.data, []
    if data.facts.classes is None:
        labels = _labels_fault(experiment.sampling.labels, classes, data.name)
        found += [] if labels is None else [Fault("", "sampling.labels", labels)]
        for key in ("distill.guidance", "sampling.guidance"):
            if not classes and experiment.value(key) != 1:
                found.append(
                    Fault("", key, f"got {experiment.value(key)}, {UNGUIDED.format(data.name)}")
                )
        if not classes and "fid_per_class" in experiment.evaluation.metrics:
            found.append(
                Fault(
                    "", "evaluation.metrics", f"got fid_per_class, {UNLABELLED.format(data.name)}"
                )
            )
    from kaccore.metrics.features import OWN, features_for

    own = (
        features_for(data.name, experiment.evaluation.features, experiment.evaluation.weights)
        == OWN
    )
    if "inception_score" in experiment.evaluation.metrics and own and not classes:
        what = "its own features, learned without labels, tell no classes apart"
        found.append(
            Fault("", "evaluation.metrics", f"got inception_score, expected other metrics: {what}")
        )
    return found


def _labels_fault(labels: int | tuple[int, ...] | None, classes: int, name: str) -> str | None:
    asked = labels if isinstance(labels, tuple) else () if labels is None else (labels,)
    if all(label < classes for label in asked):
        return None
    if not classes:
        return f"got {describe(labels)}, expected null: {name} has no labels"
    return f"got {describe(labels)}, expected 0 to {classes - 1}: {name} has {classes} classes"


@rule("sampling.labels", "teacher.label_dropout")
def _labels_are_trained(experiment: Experiment) -> str | None:
    labels = experiment.sampling.labels
    if labels is None or experiment.teacher.label_dropout is not None:
        return None
    return (
        f"got {describe(labels)}, expected null: teacher.label_dropout null trains without labels"
    )


@rule(
    "sampling.steps",
    "sampling.model",
    "distill.intervals",
    "distill.kind",
    "distill.teacher_steps",
    pairing=True,
)
def _student_has_steps(experiment: Experiment) -> str | None:
    steps = experiment.sampling.steps
    if experiment.sampling.model == "teacher":
        return None
    fault = experiment.distill.steps_fault(steps)
    return None if fault is None else f"got {steps}, {fault}"


@rule("sampling.solver", "sampling.model", pairing=True)
def _student_takes_euler(experiment: Experiment) -> str | None:
    if experiment.sampling.model == "teacher" or experiment.sampling.solver == "euler":
        return None
    return f"got {describe(experiment.sampling.solver)}, expected euler: a student's step is one Euler step"


@rule("sampling.guidance", "sampling.model", pairing=True)
def _student_is_not_guided(experiment: Experiment) -> str | None:
    if experiment.sampling.model == "teacher" or experiment.sampling.guidance == 1:
        return None
    return f"got {describe(experiment.sampling.guidance)}, expected 1: a student has its guidance from distill.guidance"


@rule("sampling.times", "sampling.model", "sampling.steps")
def _teachers_grid_fits(experiment: Experiment) -> str | None:
    times, steps = experiment.sampling.times, experiment.sampling.steps
    if times is None:
        return None
    if experiment.sampling.model == "student":
        return f"got {describe(times)}, expected null: a student's grid is that of distill.times"
    return (
        None
        if len(times) == steps + 1
        else f"got {len(times)} times, expected {steps + 1}: sampling.steps {steps}"
    )


@rule("sampling.gamma", "sampling.model", "distill.kind", pairing=True)
def _gamma_is_for_jumps(experiment: Experiment) -> str | None:
    gamma = experiment.sampling.gamma
    distill = experiment.distill
    teacher = experiment.sampling.model == "teacher"
    if gamma == 0 or (distill.jumps and not teacher):
        return None
    who = "the teacher" if teacher else f"students of {distill.called}"
    kinds = [kind.name_of() for kind in type(distill).family if kind.jumps]
    return f"got {gamma:g}, expected 0: it is for students of {', '.join(kinds)}, not {who}"


@rule("evaluation.features", "data.name")
def _features_know_the_data(experiment: Experiment) -> str | None:
    data = experiment.data
    features = experiment.evaluation.features
    if features == AUTO:
        return None
    suitable = [kind.name_of() for kind in FeatureKind.family if kind.suits(data)]
    if features in suitable:
        return None
    *first, last = (AUTO, *suitable)
    return f"got {describe(features)}, expected {', '.join(first)} or {last} for data {data.name}"


@rule("evaluation.metrics", "data.name")
def _metrics_know_the_data(experiment: Experiment) -> str | None:
    """What only points have (an exact density, distances that mean something), and what only images
    have."""
    metrics, data = experiment.evaluation.metrics, experiment.data
    if data.facts.points:
        wrong, why = {"inception_score"}, "are points, which no classifier tells apart"
    else:
        wrong = {"w2", "log_likelihood"}
        why = "are images, and it is for points (grid9)"
    found = next((metric for metric in metrics if metric in wrong), None)
    return (
        None
        if found is None
        else f"got {found}, expected other metrics: the data of {data.name} {why}"
    )


@rule("evaluation.metrics", "data.name", "teacher.label_dropout")
def _classes_are_compared_with_labels(experiment: Experiment) -> str | None:
    data, unlabelled = experiment.data, experiment.teacher.label_dropout is None
    if "fid_per_class" not in experiment.evaluation.metrics or not (
        unlabelled or data.facts.classes == 0
    ):
        return None
    if data.facts.classes == 0:
        return f"got fid_per_class, {UNLABELLED.format(data.name)}"
    return "got fid_per_class, expected other metrics: teacher.label_dropout null trains without labels"


@rule("evaluation.metrics", "evaluation.features")
def _a_score_of_classes_has_classes(experiment: Experiment) -> str | None:
    features = experiment.evaluation.features
    kind = FeatureKind.family.kinds.get(features)
    score = "inception_score"
    if kind is None or kind.tells_classes or score not in experiment.evaluation.metrics:
        return None
    what = f"evaluation.features {features} tells no classes apart"
    return f"got {score}, expected other metrics: {what}"


@rule("evaluation.weights", "evaluation.features", "data.name")
def _weights_have_a_network(experiment: Experiment) -> str | None:
    """The weights are those of an extractor that takes a file, whatever else is measured with."""
    weights = experiment.evaluation.weights
    features = experiment.evaluation.features
    if weights is None:
        return None
    taking = [kind.name_of() for kind in FeatureKind.family if kind.takes_weights()]
    shipped = [kind.shipped_for() for kind in FeatureKind.family]
    auto = features == AUTO and experiment.data.name not in shipped
    if features in taking or auto:
        return None
    what = f"evaluation.features {features} takes no weights file"
    return f"got {describe(weights)}, expected null: {what}; those that do: {', '.join(taking)}"


@rule("evaluation.weights_sha256", "evaluation.weights")
def _checksum_has_a_file(experiment: Experiment) -> str | None:
    orphan = (
        experiment.evaluation.weights_sha256 is not None and experiment.evaluation.weights is None
    )
    return "got a checksum, expected null: evaluation.weights names no file" if orphan else None
