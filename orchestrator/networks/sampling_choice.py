"""How the networks of a `TrainedRun` are sampled: the settings from a command line or a request, the
stage to sample, and texts about both."""

import argparse
import csv
import json
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from orchestrator.fields.addresses import not_text
from orchestrator.fields.faults import ConfigError, Fault, nearest
from orchestrator.fields.options import option
from orchestrator.fields.plugins import KEY
from orchestrator.host.printed import command
from orchestrator.networks.locate import TrainedRun
from orchestrator.plan.data import DatasetInfo
from orchestrator.plan.stage import Stage
from orchestrator.settings import loading
from orchestrator.settings.experiment import Experiment
from orchestrator.settings.rules.sampling import class_faults

if TYPE_CHECKING:  # a refusal does not wait for torch
    from kaccore.data import ImageData

LISTED = 20  # class names in a message


def from_options(
    run: TrainedRun, args: argparse.Namespace, labels: list[int] | None = None
) -> Experiment:
    """The configuration with the options of the command line; faults name the option."""
    given = {name: getattr(args, name) for name in ("model", "steps", "solver", "guidance")}
    return with_sampling(run, {**given, "labels": labels})


def with_sampling(run: TrainedRun, given: Mapping[str, Any]) -> Experiment:
    """The configuration with those settings of `sampling` that are `given` and not None; raises
    ConfigError.

    A run's solver, guidance, grid, noise and average belong to the network that it samples: for the
    other network the defaults replace them."""
    model = run.choose_network(given.get("steps"), given.get("solver"), given.get("guidance"))
    values = {"model": model, **{name: value for name, value in given.items() if value is not None}}
    if values["model"] != run.config.sampling.model:
        defaults = {"solver": "euler", "guidance": 1.0, "times": None, "gamma": 0.0, "ema": None}
        values = defaults | values
    changed = {f"sampling.{name}": value for name, value in values.items()}
    return loading.override(run.config, {"sweep": None, **changed})


def class_numbers(run: TrainedRun, text: str) -> list[int]:
    """The numbers of the classes that `text` lists, by names or numbers, separated by commas (a name
    with a comma in double quotes). A name has priority over a number. Raises ConfigError."""
    words = next(csv.reader([text], skipinitialspace=True), []) or [""]
    return [class_number(run.trial.facts.data, word.strip()) for word in words]


def class_number(info: DatasetInfo, word: str) -> int:
    """The number of the class of `info` with the name `word`, or with that number; raises
    ConfigError."""
    if word in info.class_names:
        return info.class_names.index(word)
    try:
        return int(word)
    except ValueError:
        pass
    if problem := not_text(word):
        raise ConfigError([Fault(option("labels"), "", problem)])
    if not info.class_names:
        raise ConfigError(
            [Fault(option("labels"), "", f"got {word}, but {info.name} has no classes")]
        )
    close = nearest(word, info.class_names)
    names = ", ".join(info.class_names[:LISTED])
    if len(info.class_names) > LISTED:
        names += f" and {len(info.class_names) - LISTED} more"
    meant = f'did you mean "{close}"? Expected' if close else "expected"
    what = (
        f"got {word}, {meant} classes of {info.name}, by names or by numbers such as 0,1: {names}"
    )
    raise ConfigError([Fault(option("labels"), "", what)])


def sampling_text(config: Experiment, stage: Stage, nfe: int) -> str:
    """The sampled network and its settings, as a text."""
    own = config.sampling
    kind = stage.kind if stage.student is None else f"student ({stage.student.distiller})"
    solver = "by jumps" if stage.jumps else f"of {own.solver}"
    first = stage.lineage()[1].student if stage.kind == "student" else None
    built_in = 1.0 if first is None else first.guidance
    guidance = f"{own.guidance:g}" if built_in == 1 else f"{built_in:g}, built in"
    steps = "1 step" if own.steps == 1 else f"{own.steps} steps"
    tone = ", calibrated" if own.calibrated and stage.training_spec.optimise.calibrate else ""
    decay = stage.average(own.ema)
    average = "" if decay is None else f", average of decay {decay:g}"
    return f"{kind}, {steps} {solver}, NFE {nfe}, guidance {guidance}{tone}{average}"


def origin_text(run: TrainedRun, stage: Stage) -> str:
    """Where the sampled network comes from, as a text."""
    return f"from {run.origin}: {run.stage_name(stage)}, stage {stage.key}"


def stage_to_sample(run: TrainedRun, config: Experiment) -> Stage:
    """The stage to sample; raises ConfigError if it is not trained yet, DamagedError if its result
    is damaged."""
    stage = run.teacher
    if config.sampling.model != "teacher":
        stage = run.trial.students[config.sampling.steps]
    if run.store.done(stage.key):
        from orchestrator.store import integrity

        integrity.check(run.store, [stage])
        _check_plugins(run, stage)
        return stage
    what = f"{run.stage_name(stage)} is not trained yet under {run.store.root}"
    raise ConfigError([Fault(run.name, "", f"{what}: run {_training(run, config, stage)} first")])


def _check_plugins(run: TrainedRun, stage: Stage) -> None:
    """Raise ConfigError if a plugin now has another source than the one that trained the network."""
    for member in stage.lineage():
        trained = _plugin_hashes(run.store.result(member.key).manifest["config"])
        current = _plugin_hashes(member.content)
        for block, was in trained.items():
            if was != current[block]:
                now = current[block]
                what = f"its {block} was trained with a plugin of sha256 {was}, which is now {now}"
                remedy = "restore the plugin, or run the sweep again"
                raise ConfigError([Fault(run.name, KEY, f"{what}: {remedy}")])


def _plugin_hashes(content: Mapping[str, Any]) -> dict[str, str | None]:
    """The hashes of the plugins in the content of a stage, by the block that each defines. That of
    a distiller is next to the other settings of its student."""
    blocks = {
        "path": content.get("path", {}),
        "model": content.get("model", {}),
        "distill": content,
    }
    return {block: settings.get("plugin") for block, settings in blocks.items()}


def _training(run: TrainedRun, config: Experiment, stage: Stage) -> str:
    """The command that trains `stage`."""
    sets = list(run.sets)
    needed = {member.key for member in run.trial.chain}
    if stage is not run.teacher and stage.key not in needed:
        values = {
            "model": "student",
            "solver": "euler",
            "guidance": 1.0,
            "times": None,
            "steps": config.sampling.steps,
        }
        sets += [f"sampling.{name}={json.dumps(value)}" for name, value in values.items()]
    options = [word for text in sets for word in ("--set", text)]
    return command("train" if stage is run.teacher else "distill", run.file, *options)


def check_classes(run: TrainedRun, config: Experiment, data: "ImageData") -> None:
    """Raise ConfigError if labels or guidance do not suit the data set's classes, which for a folder
    are known only after reading it."""
    faults = class_faults(config, data.classes)
    if faults:
        raise ConfigError([replace(fault, source=run.name) for fault in faults])
