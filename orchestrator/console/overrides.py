"""What a command line changes about its file, by `--set` and `--only`: what a sweep would not heed
is refused, and what changes nothing is said."""

import json
import shlex
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from orchestrator.fields.faults import ConfigError, Fault, describe
from orchestrator.settings import loading
from orchestrator.settings.experiment import Experiment
from orchestrator.settings.space import NOT_SWEPT, with_values

if TYPE_CHECKING:  # a refusal does not wait for planning
    from orchestrator.plan.plan import Plan

LISTED = 20  # values of a swept setting that a message repeats
# settings that count though no key has them, or whose part in the keys only the data's files tell
ALWAYS_USED = (
    *NOT_SWEPT,
    "data",
    "evaluation.weights",
    "evaluation.every",
    "evaluation.every_samples",
)


def refuse_swept(experiment: Experiment, source: str, texts: Sequence[str]) -> None:
    """Raise ConfigError where a sweep of `experiment`, which is the file `source` with the `--set`
    `texts`, varies what one of them sets: its trials would not have that value.

    Allowed is what trials do have where a condition of the sweep fails, and what makes the file's
    base a sound run."""
    sweep = experiment.sweep
    if sweep is None:
        return
    faults = []
    for at, text in enumerate(texts):
        found = [(key, value) for key, value in _set_by(text).items() if key in sweep.space]
        found = [(key, value) for key, value in found if key not in sweep.conditions]
        if found and _loaded(source, texts, at) is not None:
            faults += [
                Fault(f"--set {text}", key, _remedies(experiment, key, value))
                for key, value in found
            ]
    if faults:
        raise ConfigError(faults)


def without_effect(plan: "Plan", source: str, texts: Sequence[str]) -> Iterator[str]:
    """A line for each of the `--set` `texts` without which `plan`, that of the file `source` with
    all of them, does the same. Of a sweep that draws its points as it goes only those that leave
    the settings equal are known."""
    for at, text in enumerate(texts):
        bare = _loaded(source, texts, at)
        if bare is None:
            continue  # the others cannot be without it
        key = loading.assignment(text, f"--set {text}")[0]
        if bare == plan.experiment:
            again = next(
                (
                    later
                    for later in texts[at + 1 :]
                    if _set_by(later).keys() & _set_by(text).keys()
                ),
                None,
            )
            why = (
                f"{_told(bare, key)} without it"
                if again is None
                else f"--set {again} comes after it"
            )
            yield f"--set {text} changes nothing: {why}"
        elif not _used(plan, bare):
            who = (
                "no trial uses"
                if plan.goal == "sweep" and plan.experiment.sweep
                else "this run does not use"
            )
            yield f"--set {text} changes nothing: {who} {key}"


def chosen(plan: "Plan", texts: Sequence[str]) -> set[int] | None:
    """The trials that `--only` means, None without it; raises ConfigError where it means none or is
    no key."""
    if not texts:
        return None
    found = {trial.index for trial in plan.trials}
    for text in texts:
        found &= _with_value(plan, text)
    if not found:
        raise ConfigError(
            [Fault(" ".join(f"--only {text}" for text in texts), "", "no trial has these values")]
        )
    return found


def leaving_all(plan: "Plan", texts: Sequence[str]) -> Iterator[str]:
    """A line for each of the `--only` `texts` that leaves no trial of `plan` out."""
    count = len(plan.trials)
    for text in texts:
        if len(_with_value(plan, text)) == count:
            yield f"--only {text} changes nothing: all {count} trials have this value"


def _with_value(plan: "Plan", text: str) -> set[int]:
    """The trials that one `--only` means."""
    source = f"--only {text}"
    key, value = loading.assignment(text, source)
    swept = (
        list(plan.experiment.sweep.space)
        if plan.experiment.sweep is not None and plan.goal == "sweep"
        else []
    )
    if plan.grows or key not in swept:
        what = f"expected a key of sweep.space: {', '.join(swept) or 'there is none'}"
        raise ConfigError(
            [Fault(source, key, "a sweep by optuna has no parts" if plan.grows else what)]
        )
    wanted = (
        value
        if isinstance(value, list) and not isinstance(plan.trials[0].overrides[key], list)
        else [value]
    )
    there = [trial.overrides[key] for trial in plan.trials]
    if absent := [each for each in wanted if each not in there]:
        distinct = [each for k, each in enumerate(there) if each not in there[:k]]
        shown = ", ".join(describe(each) for each in distinct[:LISTED])
        more = f" and {len(distinct) - LISTED} more" if len(distinct) > LISTED else ""
        what = f"got {', '.join(map(describe, absent))}, which no trial has, expected some of {shown}{more}"
        raise ConfigError([Fault(source, key, what)])
    return {trial.index for trial in plan.trials if trial.overrides[key] in wanted}


def _set_by(text: str) -> dict[str, Any]:
    """The dotted keys that one `--set` sets, with their values: a block sets each that it names."""
    key, value = loading.assignment(text, f"--set {text}")
    if "." not in key and isinstance(value, dict):
        return {f"{key}.{field}": each for field, each in value.items()}
    return {key: value}


def _loaded(source: str, texts: Sequence[str], without: int) -> Experiment | None:
    """The file's experiment with all `texts` but that number `without`; None where it is refused
    so."""
    try:
        return loading.load(source, [*texts[:without], *texts[without + 1 :]])
    except ConfigError:
        return None


def _remedies(experiment: Experiment, key: str, value: Any) -> str:
    assert experiment.sweep is not None
    entry = experiment.sweep.space[key]
    others = [each for name, each in experiment.sweep.space.items() if name != key]
    # a search by draws has to have something left to draw
    kind = (
        "choice" if entry.kind != "grid" and all(each.kind == "grid" for each in others) else "grid"
    )
    vary = shlex.quote(f"sweep.space.{key}={{{kind}: [{describe(value)}]}}")
    remedy = f"give the sweep its values with --set {vary}"
    over = ""
    if entry.kind == "grid" and experiment.sweep.search != "optuna":
        if value in entry.values:
            remedy = f"run the trials that have it with --only {shlex.quote(f'{key}={describe(value)}')}, or {remedy}"
        else:
            over = f" over {describe(list(entry.values))}"
    return f"got {describe(value)}, which no trial would heed, since sweep.space varies it{over}: {remedy}"


def _told(experiment: Experiment, key: str) -> str:
    if key.startswith("sweep.space.") or isinstance(value := experiment.value(key), dict):
        return f"{key} is the same"
    return f"{key} is {describe(value)}"


def _used(plan: "Plan", bare: Experiment) -> bool:
    """Whether `plan` does anything that it would not do for the other experiment `bare`."""
    if plan.grows or _always_used(plan.experiment, bare):
        return True
    base = {**bare.model_dump(mode="json"), "sweep": None}
    for trial in plan.trials:  # what is used shows, as a rule, in the first one
        twin, faults = loading.examine(with_values(base, trial.overrides))
        if faults or _work(plan, twin) != [[stage.key for stage in trial.stages()]]:
            return True
    # conditions and constraints may have made other trials, or given them other values
    return _work(plan, bare) != [[stage.key for stage in trial.stages()] for trial in plan.trials]


def _work(plan: "Plan", experiment: Experiment) -> list[list[str]] | None:
    """The keys of the stages of each trial of `experiment`, planned as `plan` was; None where that
    cannot be."""
    from orchestrator.plan.plan import make

    assert plan.facts_of is not None
    try:
        return [
            [stage.key for stage in t.stages()]
            for t in make(experiment, plan.facts_of, plan.goal).trials
        ]
    except ConfigError:
        return None


def _always_used(one: Experiment, other: Experiment) -> bool:
    mine, theirs = (_flat(each) for each in (one, other))
    changed = {key for key in mine.keys() | theirs.keys() if mine.get(key) != theirs.get(key)}
    return any(key == used or key.startswith(f"{used}.") for key in changed for used in ALWAYS_USED)


def _flat(experiment: Experiment) -> dict[str, str]:
    """Every setting as text, by its dotted key; the block `sweep`, which may be null, as a
    whole."""
    found: dict[str, str] = {}
    for block, value in experiment.model_dump(mode="json").items():
        fields = value if isinstance(value, dict) and block != "sweep" else {"": value}
        found |= {
            f"{block}.{field}".rstrip("."): json.dumps(each) for field, each in fields.items()
        }
    return found
