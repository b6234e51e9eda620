"""The settings of an experiment that are not at the program's defaults."""

from typing import Any

from pydantic_core import to_jsonable_python

from orchestrator.fields.kind import FAMILIES
from orchestrator.settings.experiment import Experiment


def changed(experiment: Experiment) -> dict[str, Any]:
    """The settings that are not at their defaults, by dotted key, as JSON has them, without `name` and
    `sweep`. What an element of a list of blocks states has a key of its own, such as
    distill.stages.1.weight."""
    values: dict[str, Any] = {}
    for key, value in experiment.flat().items():
        block, _, name = key.partition(".")
        if block in ("name", "sweep"):
            continue
        within: Any = getattr(experiment, block) if name else experiment
        if of_elements := elements(key, value):
            values |= of_elements
        elif block in FAMILIES and name == FAMILIES[block].key:
            if not type(within).is_default:
                values[key] = value
        elif not _is_default(type(within), name or block, value):
            values[key] = value
    return values


def elements(key: str, value: Any) -> dict[str, Any]:
    """What the elements of a list of blocks state, each under a key of its own, such as
    distill.stages.1.weight; empty for another value."""
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        return {}
    return {f"{key}.{i}.{k}": v for i, item in enumerate(value) for k, v in item.items()}


def _is_default(model: Any, name: str, value: Any) -> bool:
    field = model.model_fields.get(name)
    if field is None or field.is_required():
        return False
    return bool(value == to_jsonable_python(field.get_default(call_default_factory=True)))
