"""Rules between data sets and networks."""

from orchestrator.fields.rule import rule
from orchestrator.settings.experiment import Experiment


@rule("model.kind", "data.name")
def _points_take_a_network_of_points(experiment: Experiment) -> str | None:
    model = experiment.model
    data = experiment.data
    if model.takes_points or not data.facts.points:
        return None
    kinds = [kind.name_of() for kind in type(model).family if kind.takes_points]
    why = f"{data.name} has points in the plane, without neighbouring pixels"
    return f"got {model.called}, expected {' or '.join(kinds)}: {why}"


@rule("teacher.augment", "model.kind")
def _augmented_networks_are_told(experiment: Experiment) -> str | None:
    augment = experiment.teacher.augment
    if augment == 0 or experiment.model.takes_augmentation:
        return None
    kinds = [kind.name_of() for kind in type(experiment.model).family if kind.takes_augmentation]
    what = f"model.kind {experiment.model.called} takes no augmentation as an input"
    return f"got {augment:g}, expected 0: {what}; kinds that do: {', '.join(kinds)}"
