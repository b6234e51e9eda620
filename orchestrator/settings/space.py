"""Checks the `sweep.space` block: its keys, each value alone, and its size. `plan.points` builds the
combinations."""

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from pydantic import BaseModel, ValidationError

from orchestrator.fields.elements import element, element_problem, with_element
from orchestrator.fields.faults import Fault, describe, unknown_key
from orchestrator.fields.kind import FAMILIES, without_foreign
from orchestrator.fields.messages import translate
from orchestrator.fields.schema import atoms, field_of, leaves
from orchestrator.settings.entries import SpaceEntry
from orchestrator.settings.experiment import Experiment
from orchestrator.settings.expressions import Expression
from orchestrator.settings.sweep_block import Sweep

MAX_TRIALS = 10_000  # a larger grid is most likely a mistake, and takes minutes to plan
NOT_SWEPT_KEYS = ("teacher.weights", "teacher.weights_sha256", "teacher.weights_names")
NOT_SWEPT = ("sweep", "name", "storage", "plugins", "tracking", "cluster", "checkpoint")


def with_values(data: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of `data` with dotted keys set. A block that is absent or null is created. If the kind
    of a block is set, the keys that the new kind does not have are removed."""
    result = dict(data)
    for key, value in sorted(values.items(), key=lambda item: not names_kind(item[0])):
        block, _, field = key.partition(".")
        if field.startswith("space.") and block == "sweep":
            sweep = result.get("sweep")
            sweep = dict(sweep) if isinstance(sweep, dict) else {}
            space = sweep.get("space")
            swept = {**space} if isinstance(space, dict) else {}
            sweep["space"] = {**swept, field.removeprefix("space."): value}
            result["sweep"] = sweep
        elif (where := element(key)) is not None:
            result = with_element(result, where, value)
        elif field:
            within = result.get(block)
            # otherwise the block itself is faulty and stays unchanged, to be reported
            if within is None or isinstance(within, dict):
                result[block] = {**(within or {}), field: value}
                if names_kind(key):
                    result[block], _ = without_foreign(result[block], block)
        else:
            result[key] = value
    return result


def names_kind(key: str) -> bool:
    """Whether this dotted key sets the kind of a block."""
    block, _, field = key.partition(".")
    return block in FAMILIES and field == FAMILIES[block].key


def left_out(data: Any, values: Mapping[str, Any]) -> list[str]:
    """One message for each kind that `values` set, about the keys of `data` that `with_values`
    removes because the new kind does not have them."""
    lines = []
    for key, value in values.items():
        block, _, field = key.partition(".")
        within = data.get(block) if isinstance(data, dict) else None
        if names_kind(key) and isinstance(within, dict):
            _, foreign = without_foreign({**within, field: value}, block)
            removed = [f"{block}.{name}" for name in foreign if f"{block}.{name}" not in values]
            if removed:
                lines.append(
                    f"left out {', '.join(removed)}: {key} {describe(value)} has no such key"
                )
    return lines


def owned(data: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """`values`, by dotted key of `data`, without the keys that the kinds in `data` and `values` do
    not have."""
    result = with_values(data, {k: v for k, v in values.items() if names_kind(k)})
    remaining = {}
    for key, value in values.items():
        block, _, field = key.partition(".")
        foreign: list[str] = []
        if block in FAMILIES:
            _, foreign = without_foreign({**result.get(block, {}), field: value}, block)
        if field not in foreign:
            remaining[key] = value
    return remaining


def sweepable(model: type[BaseModel]) -> list[str]:
    """The dotted keys of all settings that can be swept."""
    return [
        name
        for name in leaves(model)
        if name.partition(".")[0] not in NOT_SWEPT and name not in NOT_SWEPT_KEYS
    ]


def space_faults(experiment: Experiment) -> list[Fault]:
    """The faults of `experiment.sweep`, without sources. Each value is checked alone in the base
    run."""
    sweep = experiment.sweep
    if sweep is None:
        return []
    faults: list[Fault] = []
    for key, entry in sweep.space.items():
        problem = _key_problem(experiment, key) or _kind_problem(experiment, key, entry)
        if problem is not None:
            faults.append(Fault("", f"sweep.space.{key}", problem))
        else:
            faults.extend(_value_faults(experiment, sweep, key, entry.tried))
    points = 1 if sweep.num_trials is None else sweep.num_trials
    grid = [entry for entry in sweep.space.values() if entry.kind == "grid"]
    size = points * math.prod(len(entry.values) for entry in grid)
    if size > MAX_TRIALS:
        message = f"the grid has {size} combinations, expected at most {MAX_TRIALS}"
        faults.append(Fault("", "sweep.space", message))
    return faults + list(_expression_faults(experiment, sweep))


def _kind_problem(experiment: Experiment, key: str, entry: SpaceEntry) -> str | None:
    if entry.kind not in ("uniform", "loguniform"):
        return None
    kinds = set(atoms(field_of(type(experiment), key).annotation))
    if int in kinds and float not in kinds:
        return f"got {entry.kind}, expected {{int: [low, high]}}: {key} is a whole number"
    return None


def _expression_faults(experiment: Experiment, sweep: Sweep) -> Iterator[Fault]:
    settings = sweepable(type(experiment))
    for key, text in sweep.conditions.items():
        if key not in sweep.space:
            message = f"{key} is not swept, expected a key of sweep.space"
            yield Fault("", f"sweep.conditions.{key}", message)
        yield from _expression_fault(f"sweep.conditions.{key}", text, settings)
    for text in sweep.constraints:
        yield from _expression_fault("sweep.constraints", text, settings)


def _expression_fault(key: str, text: str, settings: list[str]) -> Iterator[Fault]:
    try:
        Expression(text, settings)
    except ValueError as e:
        yield Fault("", key, f"{describe(text)}: {e}")


def in_space(fault: Fault, overrides: Mapping[str, Any]) -> Fault:
    """The fault of a trial as a fault of the swept values that cause it."""
    swept = [key for key in dict.fromkeys((fault.key, *fault.involves)) if key in overrides]
    if not swept:
        return fault
    first, *others = swept
    values = f"value {describe(overrides[first])}"
    if others:
        values += " with " + ", ".join(f"{key} {describe(overrides[key])}" for key in others)
    subject = "" if fault.key == first else f"{fault.key} "
    message = f"{values}: {subject}{fault.message}"
    return replace(fault, key=f"sweep.space.{first}", message=message)


def _key_problem(experiment: Experiment, key: str) -> str | None:
    block = key.partition(".")[0]
    if block in NOT_SWEPT:
        return f"{block} cannot be swept: it sets where and how a run is executed, not what it computes"
    if key in NOT_SWEPT_KEYS:
        return f"{key} cannot be swept: write one experiment for each file of weights"
    if (where := element(key)) is not None:
        missing = element_problem(experiment.model_dump(mode="json"), where)
        if missing is not None or experiment.has(key):
            return missing
        return unknown_key(where.name, experiment.item(where).setting_names())
    swept = sweepable(type(experiment))
    if key in swept:
        return None
    members = [name for name in swept if name.startswith(f"{key}.")]
    if members:
        return f"{key} is a block, expected one of its keys: {', '.join(members)}"
    return unknown_key(key, swept, elsewhere=swept)


def _value_faults(
    experiment: Experiment, sweep: Sweep, key: str, values: tuple[Any, ...]
) -> Iterator[Fault]:
    base = {**experiment.model_dump(mode="json"), "sweep": None}
    seen: set[str] = set()
    kinds = _kind_with(experiment, sweep, key)
    if kinds is None:
        block, _, field = key.partition(".")
        family = FAMILIES[block]
        what = f"{experiment.value(f'{block}.{family.key}')} has no {field}, which is a key of"
        message = f"{block}.{family.key} {what} {', '.join(family.having(field))}"
        yield Fault("", f"sweep.space.{key}", message)
        return
    for value in values:
        data = with_values(base, {**kinds, key: value})
        try:
            trial = type(experiment).model_validate(data)
        except ValidationError as error:
            for fault in translate(error, type(experiment), data):
                yield in_space(fault, {key: value})
            continue
        if key == "evaluation.metrics" and sweep.ranked_by not in trial.evaluation.metrics:
            fault = Fault("", key, f"without {sweep.ranked_by}, which is sweep.metric")
            yield in_space(fault, {key: value})
        text = json.dumps(trial.value(key))  # as the run has it: 1 and 1.0 are one learning rate
        if text in seen:
            yield Fault("", f"sweep.space.{key}", f"value {describe(value)} occurs twice")
        seen.add(text)


def _kind_with(experiment: Experiment, sweep: Sweep, key: str) -> dict[str, Any] | None:
    """The settings with which the block of `key` has this key: none, or a swept kind of the block.
    None if no kind in the sweep has it."""
    block, _, field = key.partition(".")
    if block not in FAMILIES or not field or field == FAMILIES[block].key or element(key):
        return {}
    family = FAMILIES[block]
    named = f"{block}.{family.key}"
    having = family.having(field)
    if experiment.value(named) in having:
        return {}
    entry = sweep.space.get(named)
    swept = entry.values if entry is not None else ()
    return next(({named: kind} for kind in swept if kind in having), None)
