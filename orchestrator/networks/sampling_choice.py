"""How the networks of a `TrainedRun` are sampled: the settings that a command line or a request
asks for, the stage that they mean, and both in words."""

import argparse
import csv
import json
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from orchestrator.fields.addresses import not_text
from orchestrator.fields.faults import ConfigError, Fault, nearest
from orchestrator.host.printed import command
from orchestrator.networks.locate import TrainedRun
from orchestrator.plan.stage import Stage
from orchestrator.settings import loading
from orchestrator.settings.experiment import Experiment
from orchestrator.settings.rules.sampling import class_faults

if TYPE_CHECKING:  # a refusal does not wait for torch
    from kaccore.data import ImageData

LISTED = 20  # names of classes that a message repeats


def override(
    source: TrainedRun, args: argparse.Namespace, labels: list[int] | None = None
) -> Experiment:
    """The configuration with what the command line asks for; faults name the option."""
    given = {name: getattr(args, name) for name in ("model", "steps", "solver", "guidance")}
    return settled(source, {**given, "labels": labels})


def settled(source: TrainedRun, given: Mapping[str, Any]) -> Experiment:
    """The configuration with the settings of `sampling` that are `given`, and not None; raises
    ConfigError.

    Solver, guidance, grid and noise of a run are those of the network that it samples, not of the
    other one."""
    model = source.network(given.get("steps"), given.get("solver"), given.get("guidance"))
    values = {"model": model, **{name: value for name, value in given.items() if value is not None}}
    if values["model"] != source.config.sampling.model:
        values = {"solver": "euler", "guidance": 1.0, "times": None, "gamma": 0.0, **values}
    changed = {f"sampling.{name}": value for name, value in values.items()}
    return loading.override(source.config, {"sweep": None, **changed})


def classes(source: TrainedRun, text: str) -> list[int]:
    """The classes, by their numbers, that `text` lists by names or numbers, with a comma between
    two (a name that has one stands in double quotes); a name wins over a number. Raises
    ConfigError."""
    words = next(csv.reader([text], skipinitialspace=True), []) or [""]
    return [class_number(source, word.strip()) for word in words]


def class_number(source: TrainedRun, word: str) -> int:
    """The number of the class that is called `word`, or has that number; raises ConfigError."""
    info = source.trial.facts.data
    if word in info.class_names:
        return info.class_names.index(word)
    try:
        return int(word)
    except ValueError:
        pass
    if problem := not_text(word):
        raise ConfigError([Fault("--labels", "", problem)])
    if not info.class_names:
        raise ConfigError([Fault("--labels", "", f"got {word}, but {info.name} has no classes")])
    close = nearest(word, info.class_names)
    more = len(info.class_names) - LISTED
    there = ", ".join(info.class_names[:LISTED]) + (f" and {more} more" if more > 0 else "")
    meant = f'did you mean "{close}"? Expected' if close else "expected"
    what = (
        f"got {word}, {meant} classes of {info.name}, by names or by numbers such as 0,1: {there}"
    )
    raise ConfigError([Fault("--labels", "", what)])


def in_words(config: Experiment, stage: Stage, nfe: int) -> str:
    """Which network is sampled, and how."""
    own = config.sampling
    kind = stage.kind if stage.student is None else f"student ({stage.student.distiller})"
    solver = "by jumps" if stage.jumps else f"of {own.solver}"
    built_in = config.distill.guidance if stage.kind == "student" else 1.0
    guidance = f"{own.guidance:g}" if built_in == 1 else f"{built_in:g}, built in"
    return (
        f"{kind}, {own.steps} step{'s' * (own.steps != 1)} {solver}, NFE {nfe}, guidance {guidance}"
    )


def origin(source: TrainedRun, stage: Stage) -> str:
    """From where the sampled network is."""
    return f"from {source.origin}: {source.called(stage)}, stage {stage.key}"


def pick(source: TrainedRun, config: Experiment) -> Stage:
    """The stage to sample; raises ConfigError where it is not trained yet, DamagedError where its
    result is damaged."""
    teacher = source.teacher
    stage = (
        teacher
        if config.sampling.model == "teacher"
        else source.trial.students[config.sampling.steps]
    )
    if source.store.done(stage.key):
        from orchestrator.store import integrity

        integrity.check(source.store, [stage])
        return stage
    what = f"{source.called(stage)} is not trained yet under {source.store.root}"
    raise ConfigError(
        [Fault(source.name, "", f"{what}: run {_training(source, config, stage)} first")]
    )


def _training(source: TrainedRun, config: Experiment, stage: Stage) -> str:
    """The command that trains `stage`."""
    sets = list(source.sets)
    if stage is not source.teacher and stage.key not in {
        each.key for each in source.trial.chain
    }:  # no trial needs it
        values = {
            "model": "student",
            "solver": "euler",
            "guidance": 1.0,
            "times": None,
            "steps": config.sampling.steps,
        }
        sets += [f"sampling.{name}={json.dumps(value)}" for name, value in values.items()]
    options = [word for text in sets for word in ("--set", text)]
    return command("train" if stage is source.teacher else "distill", source.file, *options)


def check_classes(source: TrainedRun, config: Experiment, data: "ImageData") -> None:
    """Raise ConfigError where labels or guidance do not suit a folder's classes, which only reading
    it tells."""
    faults = class_faults(config, data.classes)
    if faults:
        raise ConfigError([replace(fault, source=source.name) for fault in faults])
