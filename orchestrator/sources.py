"""What a command that needs trained networks may be pointed at, and how what it finds is sampled.

    FILE                an experiment's YAML
    FOLDER              a stage's (runs/stages/<key>) or a sweep's (its best trial); FOLDER:3 is trial 3 of a sweep
    NAME, NAME/ID       the sweep of that name, the newest, or the one with that id; NAME:3 is its trial 3
    an MLflow run id    of a stage, a trial or a sweep
    models:/NAME        the registered model, its newest version; also models:/NAME/VERSION, models:/NAME@ALIAS

A name is looked up under --storage, what MLflow has in --tracking-uri. Nothing is trained, and Ray is not started.
"""

import argparse
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orchestrator import cli
from orchestrator.config import ConfigError, Experiment, Fault, load
from orchestrator.graph import Stage
from orchestrator.places import Folder, Place
from orchestrator.plan import Trial
from orchestrator.rules import class_faults

if TYPE_CHECKING:  # a refusal does not wait for torch
    from kaccore.data import ImageData

RUN = (
    "an experiment's YAML, a stage's folder, a sweep's folder, name or name/id, also with :TRIAL, an MLflow run id, or "
    "a registered model as models:/NAME"
)
HERE = Folder("runs")
MODELS = "models:/"  # how MLflow begins the address of a registered model
RUN_ID = re.compile("[0-9a-f]{32}")


@dataclass(frozen=True)
class Source:
    """What to sample: a store, the trial whose networks lie there, and which of them: teacher or student."""

    name: str
    trial: Trial
    model: str
    store: Any

    @property
    def config(self) -> Experiment:
        """The settings of the trial."""
        return self.trial.config

    @property
    def teacher(self) -> Stage:
        """The teacher of the trial."""
        return self.trial.chain[0]

    def data(self) -> "ImageData":
        """The data set as sampling needs it: the real one where it comes with a package or the prior starts from it,
        else its shape, classes and labels as the store has them. Raises ConfigError where the files are needed and
        missing."""
        from orchestrator import build
        from orchestrator.dataset_info import as_images

        path, settings = self.config.path, self.config.data
        if not settings.facts.packaged and not (path.kind == "kac" and path.signal == "exponential"):
            return as_images(self.store.with_labels(self.trial.facts.data))
        try:
            return build.checked(build.images(settings), self.teacher)
        except (ValueError, OSError) as e:
            why = "" if settings.facts.packaged else ", whose images this path starts from"
            raise ConfigError([Fault(self.name, "data", f"{e}{why}")]) from None


def add_arguments(p: argparse.ArgumentParser) -> None:
    """RUN, where to look it up, and how it is sampled."""
    p.add_argument("source", metavar="RUN", help=RUN)
    cli.add_storage(p, "where names are looked up")
    p.add_argument("--tracking-uri", help="where MLflow is asked (default: mlflow.db in --storage)")
    p.add_argument("--steps", type=int, help="steps from noise to image; a student has its own count")
    p.add_argument("--model", choices=("teacher", "student"), help="which network (default: as the run has it)")
    p.add_argument("--solver", choices=("euler", "midpoint", "heun", "ab2", "rk4"), help="the teacher's solver")
    p.add_argument("--guidance", type=float, help="guidance scale of the teacher; 1 is none")


def arguments(args: argparse.Namespace) -> list[str]:
    """The arguments by which another command finds the same run."""
    where = [] if args.storage == str(HERE) else ["--storage", str(args.storage)]
    return [args.source, *where, *([] if args.tracking_uri is None else ["--tracking-uri", args.tracking_uri])]


def locate(text: str, storage: Place = HERE, tracking_uri: str | None = None) -> Source:
    """What `text` names; raises ConfigError that says what is expected."""
    if text.startswith(MODELS):
        return _of_tracked(text, storage, tracking_uri)
    name, _, number = text.rpartition(":") if not Path(text).exists() and ":" in text else (text, "", "")
    if "/" in number:  # an address or a path, and no trial
        name, number = text, ""
    path = cli.place(name)
    if (path / "plan.json").exists():
        return _of_sweep(path, number)
    if (path / "manifest.json").exists() and not number:
        return _of_stage(path)
    if path.is_dir():
        what = "a folder of no known kind: expected a sweep's (plan.json) or a stage's (manifest.json)"
        raise ConfigError([Fault(text, "", what)])
    if RUN_ID.fullmatch(text):
        return _of_tracked(text, storage, tracking_uri)
    if not Path(text).is_file() and Path(name).suffix not in (".yaml", ".yml"):
        return _of_sweep(newest(name, storage), number)
    return _of_file(text)


def override(source: Source, args: argparse.Namespace, labels: list[int] | None = None) -> Experiment:
    """The configuration with what the command line asks for; faults name the option."""
    given = {name: getattr(args, name) for name in ("model", "steps", "solver", "guidance")}
    return settled(source, {**given, "labels": labels})


def settled(source: Source, given: Mapping[str, Any]) -> Experiment:
    """The configuration with the settings of `sampling` that are `given`, and not None; raises ConfigError.

    Solver, guidance, grid and noise of a run are those of the network that it samples, not of the other one.
    """
    values = {"model": source.model, **{name: value for name, value in given.items() if value is not None}}
    if values["model"] != source.config.sampling.model:
        values = {"solver": "euler", "guidance": 1.0, "times": None, "gamma": 0.0, **values}
    return source.config.override({"sweep": None, **{f"sampling.{name}": value for name, value in values.items()}})


def pick(source: Source, config: Experiment) -> Stage:
    """The stage to sample; raises ConfigError where it is not trained yet."""
    teacher = source.teacher
    stage = teacher if config.sampling.model == "teacher" else source.trial.students[config.sampling.steps]
    if source.store.done(stage.key):
        return stage
    command = "train" if stage is teacher else "distill"
    where = f"not trained yet under {source.store.root}"
    what = f"{stage.label} is {where}: run python -m orchestrator.{command} FILE first"
    raise ConfigError([Fault(source.name, "", what)])


def check_classes(source: Source, config: Experiment, data: "ImageData") -> None:
    """Raise ConfigError where labels or guidance do not suit a folder's classes, which only reading it tells."""
    faults = class_faults(config, data.classes)
    if faults:
        raise ConfigError([replace(fault, source=source.name) for fault in faults])


def _of_file(path: str) -> Source:
    from orchestrator.store import Store

    config = load(path)
    planned = cli.make_plan(config, path, "student")
    return Source(path, planned.trials[0], config.sampling.model, Store(config.storage))


def _of_sweep(folder: Place, number: str, key: str | None = None) -> Source:
    """Trial `number` of a sweep, the best one for none; `key` is what the trial has to be for, where that is known."""
    from orchestrator.ranking import ranking

    records = cli.records_of(folder)
    trials = records.plan.trials
    if not number and key is not None:  # a registered model knows what its trial was for, and no number
        number = next((str(t.index) for t in trials if t.key == key), "of the model")
    index = int(number) if number.isdigit() else -1 if number else ranking(records)[0][0]
    if not 0 <= index < len(trials):
        raise ConfigError([Fault(f"{folder}:{number}", "", f"expected a trial from 0 to {len(trials) - 1}")])
    if key is not None and trials[index].key != key:
        raise ConfigError([Fault(f"{folder}:{number}", "", "this trial is another than the one that was logged")])
    return Source(str(folder), trials[index], trials[index].config.sampling.model, records.store)


def _of_stage(folder: Place) -> Source:
    """A stage alone knows no experiment: the one that made it is found among the sweeps of its storage."""
    from orchestrator.store import Store

    root, key = folder.absolute().parents[1], folder.absolute().name
    for plan_file in (root / "sweeps").find("*/*/plan.json"):
        for trial in cli.records_of(plan_file.parent).plan.trials:
            if trial.chain[0].key == key:
                return Source(str(folder), trial, "teacher", Store(root))
            steps = next((steps for steps, student in trial.students.items() if student.key == key), None)
            if steps is not None:
                values = {"sampling.model": "student", "sampling.solver": "euler", "sampling.steps": steps}
                config = trial.config.override({**values, "sampling.guidance": 1.0, "sampling.times": None})
                return Source(str(folder), replace(trial, config=config), "student", Store(root))
    raise ConfigError([Fault(str(folder), "", "no sweep under this storage has this stage as a teacher or student")])


def newest(name: str, storage: Place) -> Place:
    """The folder of the sweep of `storage` called `name`, or `name/id`: of several the one that was run last. Raises
    ConfigError, with the names there are, where there is none."""
    root = storage / "sweeps"
    there = sorted(root.find("*/*/plan.json"), key=lambda plan: plan.modified())
    folders = [plan.parent for plan in there if name in (plan.parent.parent.name, "/".join(plan.parts[-3:-1]))]
    if folders:
        return folders[-1]
    names = ", ".join(sorted({plan.parent.parent.name for plan in there})) or "none"
    what = f"no such file or folder, nor a sweep of {storage}, which has: {names}"
    raise ConfigError([Fault(name, "", f"{what}; expected {RUN}")])


def _of_tracked(text: str, storage: Place, uri: str | None) -> Source:
    from orchestrator.logged import find_model, find_run

    run = (find_model if text.startswith(MODELS) else find_run)(text, storage, uri)
    if run.stage_key:
        if not (storage / "stages" / run.stage_key / "manifest.json").exists():
            what = f"its stage {run.stage_key} is not under {storage}: say with --storage where it is"
            raise ConfigError([Fault(text, "", what)])
        return _of_stage(storage / "stages" / run.stage_key)
    folder = storage / "sweeps" / run.experiment / run.sweep_id
    if not (folder / "plan.json").exists():
        what = f"its sweep {run.experiment}/{run.sweep_id} is not under {storage}: say with --storage where it is"
        raise ConfigError([Fault(text, "", what)])
    return _of_sweep(folder, run.trial, run.trial_key or None)
