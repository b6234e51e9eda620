"""Rules of sampling and evaluation: guidance, labels, step counts, features."""

from orchestrator.fields.faults import Fault, describe
from orchestrator.fields.rule import rule
from orchestrator.methods.feature_kind import FeatureKind
from orchestrator.settings.blocks import AUTO
from orchestrator.settings.experiment import Experiment

UNGUIDED = "expected 1: guidance needs labels, and {} has none"
UNLABELLED = "expected other metrics: {} has no labels"


@rule("distill.guidance", "teacher.label_dropout", "data.name")
def _distilled_guidance_has_labels(experiment: Experiment) -> str | None:
    faults = [_guided(b.guidance, experiment) for _, b in experiment.distill.trainings()]
    return next((fault for fault in faults if fault is not None), None)


@rule("sampling.guidance", "sampling.model", "teacher.label_dropout", "data.name")
def _sampled_guidance_has_labels(experiment: Experiment) -> str | None:
    if experiment.sampling.model == "student":
        return None  # `_student_is_not_guided` checks a student
    return _guided(experiment.sampling.guidance, experiment)


def _guided(guidance: float, experiment: Experiment) -> str | None:
    """Guidance compares the network with and without a label, so the network must be trained on
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
    classes = experiment.data.facts.classes
    if classes is None:
        return None
    return _labels_fault(experiment.sampling.labels, classes, experiment.data.name)


def class_faults(experiment: Experiment, classes: int) -> list[Fault]:
    """The faults of labels and guidance, without a source, of a folder: the number of its `classes`
    is known only after reading it."""
    from kaccore.metrics.features import OWN, features_for

    data = experiment.data
    evaluation = experiment.evaluation
    faults = []
    if data.facts.classes is None:
        labels = _labels_fault(experiment.sampling.labels, classes, data.name)
        if labels is not None:
            faults.append(Fault("", "sampling.labels", labels))
        if not classes:
            faults += _unlabelled_faults(experiment)
    own = features_for(data.name, evaluation.features, evaluation.weights, data.facts.points) == OWN
    if "inception_score" in evaluation.metrics and own and not classes:
        what = "own features learned without labels distinguish no classes"
        message = f"got inception_score, expected other metrics: {what}"
        faults.append(Fault("", "evaluation.metrics", message))
    return faults


def _unlabelled_faults(experiment: Experiment) -> list[Fault]:
    """The faults of settings that need labels, without a source, for data that have none."""
    name = experiment.data.name
    faults = []
    blocks = experiment.distill.trainings()
    scales = [(f"{key}.guidance", block.guidance) for key, block in blocks]
    for key, guidance in (*scales, ("sampling.guidance", experiment.sampling.guidance)):
        if guidance != 1:
            faults.append(Fault("", key, f"got {guidance}, {UNGUIDED.format(name)}"))
    if "fid_per_class" in experiment.evaluation.metrics:
        message = f"got fid_per_class, {UNLABELLED.format(name)}"
        faults.append(Fault("", "evaluation.metrics", message))
    return faults


def _labels_fault(labels: int | tuple[int, ...] | None, classes: int, name: str) -> str | None:
    if labels is None:
        return None
    wanted = labels if isinstance(labels, tuple) else (labels,)
    if all(label < classes for label in wanted):
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
    return f"got {describe(experiment.sampling.guidance)}, expected 1: distill.guidance sets the guidance of a student"


@rule("sampling.ema", "sampling.model", "sampling.steps", pairing=True)
def _average_is_kept(experiment: Experiment) -> str | None:
    sampling = experiment.sampling
    if sampling.ema is None:
        return None
    if sampling.model == "teacher":
        place, kept = "teacher", (experiment.teacher.ema, *experiment.teacher.averages)
    else:
        place, method = experiment.distill.training_of(sampling.steps)
        kept = (method.ema, *method.averages)
    if sampling.ema in kept:
        return None
    listed = ", ".join(f"{decay:g}" for decay in kept)
    return f"got {sampling.ema:g}, expected one of {listed}: {place}.ema and {place}.averages"


@rule("sampling.times", "sampling.model", "sampling.steps")
def _teachers_grid_fits(experiment: Experiment) -> str | None:
    times, steps = experiment.sampling.times, experiment.sampling.steps
    if times is None:
        return None
    if experiment.sampling.model == "student":
        return f"got {describe(times)}, expected null: distill.times sets the grid of a student"
    if len(times) == steps + 1:
        return None
    return f"got {len(times)} times, expected {steps + 1}: sampling.steps {steps}"


@rule("sampling.gamma", "sampling.model", "distill.kind", pairing=True)
def _gamma_is_for_jumps(experiment: Experiment) -> str | None:
    gamma = experiment.sampling.gamma
    distill = experiment.distill
    teacher = experiment.sampling.model == "teacher"
    if gamma == 0 or (distill.jumps and not teacher):
        return None
    who = "the teacher" if teacher else f"students of {distill.called}"
    kinds = [kind.name_of() for kind in type(distill).family if kind.jumps]
    return f"got {gamma:g}, expected 0: only for students of {', '.join(kinds)}, not for {who}"


@rule("teacher.calibrate", "data.name")
def _points_have_no_tone(experiment: Experiment) -> str | None:
    data = experiment.data
    if not experiment.teacher.calibrate or not data.facts.points:
        return None
    return f"got true, expected false: the data of {data.name} are points, not images"


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


@rule("evaluation.second", "evaluation.features", "data.name")
def _second_features_are_others(experiment: Experiment) -> str | None:
    data = experiment.data
    second = experiment.evaluation.second
    if second in (None, AUTO):
        return None
    suitable = [kind.name_of() for kind in FeatureKind.family if kind.suits(data)]
    others = [name for name in suitable if name != experiment.evaluation.features]
    if second in others:
        return None
    expected = ", ".join(["null", AUTO, *others])
    why = f"for data {data.name}"
    if second in suitable:
        why = "these are evaluation.features already"
    return f"got {describe(second)}, expected one of {expected}: {why}"


@rule("evaluation.metrics", "data.name")
def _metrics_know_the_data(experiment: Experiment) -> str | None:
    """Some metrics are only for points (an exact density, meaningful distances), others only for
    images."""
    metrics, data = experiment.evaluation.metrics, experiment.data
    if data.facts.points:
        unsuitable = {"inception_score"}
        why = "are points, for which there is no classifier"
        if not data.has_density and not unsuitable & {*metrics}:
            unsuitable = {"w2", "log_likelihood"}
            why = "have no known density to draw fresh points from"
    else:
        unsuitable = {"w2", "log_likelihood"}
        why = "are images, and it is for points (grid9)"
    refused = [metric for metric in metrics if metric in unsuitable]
    if not refused:
        return None
    return f"got {refused[0]}, expected other metrics: the data of {data.name} {why}"


@rule("evaluation.metrics", "data.name", "teacher.label_dropout")
def _classes_are_compared_with_labels(experiment: Experiment) -> str | None:
    data = experiment.data
    if "fid_per_class" not in experiment.evaluation.metrics:
        return None
    if data.facts.classes == 0:
        return f"got fid_per_class, {UNLABELLED.format(data.name)}"
    if experiment.teacher.label_dropout is not None:
        return None
    return "got fid_per_class, expected other metrics: teacher.label_dropout null trains without labels"


@rule("evaluation.metrics", "evaluation.features")
def _a_score_of_classes_has_classes(experiment: Experiment) -> str | None:
    features = experiment.evaluation.features
    kind = FeatureKind.family.kinds.get(features)
    score = "inception_score"
    if kind is None or kind.tells_classes or score not in experiment.evaluation.metrics:
        return None
    what = f"evaluation.features {features} distinguishes no classes"
    return f"got {score}, expected other metrics: {what}"


@rule("evaluation.weights", "evaluation.features", "data.name")
def _weights_have_a_network(experiment: Experiment) -> str | None:
    """A weights file is only for an extractor that takes one."""
    weights = experiment.evaluation.weights
    features = experiment.evaluation.features
    if weights is None:
        return None
    taking = [kind.name_of() for kind in FeatureKind.family if kind.takes_weights()]
    shipped = [kind.shipped_for() for kind in FeatureKind.family]
    chosen = features == AUTO and experiment.data.name not in shipped
    if features in taking or chosen:
        return None
    what = f"evaluation.features {features} takes no weights file"
    return (
        f"got {describe(weights)}, expected null: {what}; extractors that do: {', '.join(taking)}"
    )


@rule("evaluation.weights_sha256", "evaluation.weights")
def _checksum_has_a_file(experiment: Experiment) -> str | None:
    evaluation = experiment.evaluation
    if evaluation.weights_sha256 is None or evaluation.weights is not None:
        return None
    return "got a checksum, expected null: evaluation.weights names no file"
