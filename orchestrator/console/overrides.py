"""The options `--set` and `--only`: refuses values that no trial of a sweep would use, and reports
options that change nothing."""

import json
import shlex
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from orchestrator.fields.faults import ConfigError, Fault, describe
from orchestrator.fields.options import from_python, setting
from orchestrator.settings import loading
from orchestrator.settings.experiment import Experiment
from orchestrator.settings.space import NOT_SWEPT, owned, with_values

if TYPE_CHECKING:  # importing it takes time, and a refusal does not need it
    from orchestrator.plan.plan import Plan

Reload = Callable[[Sequence[str]], Experiment]  # the experiment with these `--set` alone

LISTED = 20  # how many values of a swept setting a message lists
# settings that have an effect without being in a key, or whose part in a key depends on the files
# of the data
ALWAYS_USED = (
    *NOT_SWEPT,
    "data",
    "evaluation.weights",
    "teacher.weights",
    "evaluation.every",
    "evaluation.every_student",
    "evaluation.every_samples",
)


def refuse_swept(experiment: Experiment, reload: Reload, texts: Sequence[str]) -> None:
    """Raise ConfigError where a `--set` of `texts` sets what the sweep of `experiment`, which has all
    of them, varies: no trial would have that value.

    Two cases are allowed: a key with a condition, because trials in which the condition fails have
    the value; and a value without which the file's base run is invalid."""
    sweep = experiment.sweep
    if sweep is None:
        return
    faults = []
    for at, text in enumerate(texts):
        swept = {
            key: value
            for key, value in _set_by(text).items()
            if key in sweep.space and key not in sweep.conditions
        }
        if swept and _loaded_without(reload, texts, at) is not None:
            for key, value in swept.items():
                faults.append(Fault(setting(text), key, _swept_message(experiment, key, value)))
    if faults:
        raise ConfigError(faults)


def set_without_effect(plan: "Plan", reload: Reload, texts: Sequence[str]) -> Iterator[str]:
    """A line for each `--set` of `texts` that does not change `plan`, which has all of them. If the
    plan grows, only those are reported that leave all settings equal."""
    for at, text in enumerate(texts):
        other = _loaded_without(reload, texts, at)
        if other is None:
            continue  # without it the settings are invalid
        key, _ = loading.assignment(text, setting(text))
        if other == plan.experiment:
            overriding = _later_set(texts, at)
            why = f"{_value_text(other, key)} without it"
            if overriding:
                why = f"{setting(overriding)} comes after it"
            yield f"{setting(text)} changes nothing: {why}"
        elif not _is_used(plan, other):
            sweep = plan.goal == "sweep" and plan.experiment.sweep
            who = "no trial uses" if sweep else "this run does not use"
            yield f"{setting(text)} changes nothing: {who} {key}"


def _later_set(texts: Sequence[str], at: int) -> str:
    """The first later `--set` with a key of number `at`; empty where there is none."""
    keys = _set_by(texts[at]).keys()
    for text in texts[at + 1 :]:
        if _set_by(text).keys() & keys:
            return text
    return ""


def selected_trials(plan: "Plan", texts: Sequence[str]) -> set[int] | None:
    """The numbers of the trials that `--only` selects, None without it; raises ConfigError where it
    selects none, or is not a swept key."""
    if not texts:
        return None
    selected = {trial.index for trial in plan.trials}
    for text in texts:
        selected &= _with_value(plan, text)
    if not selected:
        options = " ".join(f"--only {text}" for text in texts)
        raise ConfigError([Fault(options, "", "no trial has these values")])
    return selected


def only_without_effect(plan: "Plan", texts: Sequence[str]) -> Iterator[str]:
    """A line for each `--only` of `texts` that selects all trials of `plan`."""
    count = len(plan.trials)
    for text in texts:
        if len(_with_value(plan, text)) == count:
            yield f"--only {text} changes nothing: all {count} trials have this value"


def _with_value(plan: "Plan", text: str) -> set[int]:
    """The numbers of the trials that one `--only` selects."""
    source = f"--only {text}"
    key, value = loading.assignment(text, source)
    _check_selectable(plan, key, source)
    values = [trial.overrides[key] for trial in plan.trials]
    is_list_of_values = isinstance(value, list) and not isinstance(values[0], list)
    wanted = value if is_list_of_values else [value]
    absent = [value for value in wanted if value not in values]
    if absent:
        got = ", ".join(map(describe, absent))
        what = f"got {got}, which no trial has, expected some of {_listed(values)}"
        raise ConfigError([Fault(source, key, what)])
    return {trial.index for trial in plan.trials if trial.overrides[key] in wanted}


def _check_selectable(plan: "Plan", key: str, source: str) -> None:
    """Raise ConfigError where `--only` cannot select trials of `plan` by `key`."""
    if plan.grows:
        what = "cannot select trials of a sweep by optuna, which chooses them as it runs"
        raise ConfigError([Fault(source, key, what)])
    sweep = plan.experiment.sweep
    swept = list(sweep.space) if sweep is not None and plan.goal == "sweep" else []
    if key not in swept:
        what = f"expected a key of sweep.space: {', '.join(swept) or 'there is none'}"
        raise ConfigError([Fault(source, key, what)])


def _listed(values: Sequence[Any]) -> str:
    """The distinct `values`, at most LISTED of them."""
    distinct: list[Any] = []
    for value in values:
        if value not in distinct:
            distinct.append(value)
    text = ", ".join(map(describe, distinct[:LISTED]))
    return f"{text} and {len(distinct) - LISTED} more" if len(distinct) > LISTED else text


def _set_by(text: str) -> dict[str, Any]:
    """The dotted keys that one `--set` sets, with their values: of a block all keys that it
    names."""
    key, value = loading.assignment(text, setting(text))
    if "." not in key and isinstance(value, dict):
        return {f"{key}.{field}": inner for field, inner in value.items()}
    return {key: value}


def _loaded_without(reload: Reload, texts: Sequence[str], at: int) -> Experiment | None:
    """The experiment with all `texts` but number `at`; None where it is invalid."""
    try:
        return reload([*texts[:at], *texts[at + 1 :]])
    except ConfigError:
        return None


def _swept_message(experiment: Experiment, key: str, value: Any) -> str:
    """Why `--set` of a swept `key` is refused, and the remedies."""
    sweep = experiment.sweep
    assert sweep is not None
    entry = sweep.space[key]
    # a random search needs at least one key to sample
    only_sampled = entry.kind != "grid" and all(
        other.kind == "grid" for name, other in sweep.space.items() if name != key
    )
    kind = "choice" if only_sampled else "grid"
    vary = f"sweep.space.{key}={{{kind}: [{describe(value)}]}}"
    given = setting(vary if from_python() else shlex.quote(vary))
    remedy = f"give the sweep its values with {given}"
    over = ""
    if entry.kind == "grid" and sweep.search != "optuna":
        if value in entry.values and not from_python():  # whose functions run all trials
            only = shlex.quote(f"{key}={describe(value)}")
            remedy = f"run the trials that have it with --only {only}, or {remedy}"
        else:
            over = f" over {describe(list(entry.values))}"
    what = f"got {describe(value)}, which no trial would use, since sweep.space varies it{over}"
    return f"{what}: {remedy}"


def _value_text(experiment: Experiment, key: str) -> str:
    if key.startswith("sweep.space."):
        return f"{key} is the same"
    value = experiment.value(key)
    return f"{key} is the same" if isinstance(value, dict) else f"{key} is {describe(value)}"


def _is_used(plan: "Plan", other: Experiment) -> bool:
    """Whether a difference between the experiment of `plan` and `other` changes what runs."""
    if plan.grows or _changes_always_used(plan.experiment, other):
        return True
    base = {**other.model_dump(mode="json"), "sweep": None}
    for trial in plan.trials:  # a used setting mostly changes the first trial
        twin, faults = loading.examine(with_values(base, owned(base, trial.overrides)))
        if faults or _stage_keys(plan, twin) != [[stage.key for stage in trial.stages()]]:
            return True
    # conditions and constraints may give other trials, or other values
    keys = [[stage.key for stage in trial.stages()] for trial in plan.trials]
    return _stage_keys(plan, other) != keys


def _stage_keys(plan: "Plan", experiment: Experiment) -> list[list[str]] | None:
    """The keys of the stages of each trial of `experiment`, planned like `plan`; None where it
    cannot be planned."""
    from orchestrator.plan.plan import make

    assert plan.facts_of is not None
    try:
        trials = make(experiment, plan.facts_of, plan.goal).trials
    except ConfigError:
        return None
    return [[stage.key for stage in trial.stages()] for trial in trials]


def _changes_always_used(one: Experiment, other: Experiment) -> bool:
    values, other_values = _flat(one), _flat(other)
    keys = values.keys() | other_values.keys()
    changed = [key for key in keys if values.get(key) != other_values.get(key)]
    return any(key == used or key.startswith(f"{used}.") for key in changed for used in ALWAYS_USED)


def _flat(experiment: Experiment) -> dict[str, str]:
    """Every setting as JSON, by its dotted key; the block `sweep`, which may be null, as a
    whole."""
    settings: dict[str, str] = {}
    for block, value in experiment.model_dump(mode="json").items():
        fields = value if isinstance(value, dict) and block != "sweep" else {"": value}
        for field, inner in fields.items():
            settings[f"{block}.{field}".rstrip(".")] = json.dumps(inner)
    return settings
