"""What a command that needs trained networks may be pointed at, and how what it finds is sampled.

    FILE                an experiment's YAML, with what --set changes of it
    FOLDER              a stage's (runs/stages/<key>) or a sweep's; FOLDER:3 is trial 3 of a sweep
    NAME, NAME/ID       the sweep of that name, the newest, or the one with that id; NAME:3 is its trial 3
    an MLflow run id    of a stage, a trial or a sweep
    models:/NAME        the registered model, its newest version; also models:/NAME/VERSION, models:/NAME@ALIAS

A name is looked up under --storage, which also takes the place of a FILE's own storage; what MLflow
has is looked up in --tracking-uri. Nothing is trained, and Ray is not started.

Of a sweep without a trial the best trial of a student is meant, as the registered model is, or,
without students, the best trial. Which network is sampled is one rule for all of them:

    --model             says it
    a stage             is a network itself
    --steps N           the student of N steps where one is trained, and --solver and --guidance are none that only a
                        teacher takes; else the teacher
    nothing of these    the one that the trial, or the file, samples
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orchestrator.networks.mlflow_lookup import MODELS
from orchestrator.plan import data as dataset_info
from orchestrator.plan.plan import Trial
from orchestrator.plan.stage import Stage
from orchestrator.settings.experiment import Experiment
from orchestrator.settings.faults import ConfigError, Fault
from orchestrator.settings.loading import load, override
from orchestrator.store import layout
from orchestrator.store.folder import Folder
from orchestrator.store.last_run import last_run
from orchestrator.store.place import Place
from orchestrator.store.places import place_of
from orchestrator.store.stage_result import DamagedError
from orchestrator.sweeps import opening

if TYPE_CHECKING:  # a refusal does not wait for torch
    from kaccore.data import ImageData
    from orchestrator.sweeps.records import Records

RUN = (
    "an experiment's YAML, a stage's folder, a sweep's folder, name or name/id, also with :TRIAL, an MLflow run id, or "
    "a registered model as models:/NAME"
)
SWEEP = "a sweep as name (its newest), name/id or folder"
HERE = Folder(opening.STORAGE)
RUN_ID = re.compile("[0-9a-f]{32}")


@dataclass(frozen=True)
class TrainedRun:
    """What to sample: a store, the trial whose networks lie there, and which of them, teacher or
    student, is meant where nothing else is asked for. `file`, with the `--set` texts `sets`, is the
    experiment that trains them.

    `origin` says in words where the trial comes from; `names` are those of its sweep's stages, by
    their keys. `fixed`: one network was pointed at, and no trial."""

    name: str
    trial: Trial
    model: str
    store: Any
    origin: str = ""
    names: Mapping[str, str] = field(default_factory=dict)
    fixed: bool = False
    file: "str | Place" = "FILE"
    sets: Sequence[str] = ()

    @property
    def config(self) -> Experiment:
        """The settings of the trial."""
        return self.trial.config

    @property
    def teacher(self) -> Stage:
        """The teacher of the trial."""
        return self.trial.chain[0]

    def called(self, stage: Stage) -> str:
        """What to call one of the trial's stages: by what tells it apart from the others of its
        sweep."""
        return self.names.get(stage.key, stage.label)

    def network(self, steps: int | None, solver: Any = None, guidance: Any = None) -> str:
        """Which network is sampled, teacher or student, where only these are asked for: see the
        rule above."""
        if steps is None or self.fixed:
            return self.model
        student, done = self.trial.students.get(steps), self.store.done
        taken = solver in (None, "euler") and guidance in (None, 1)
        # where neither is trained the student is what is missing
        there = student is not None and taken and (done(student.key) or not done(self.teacher.key))
        return "student" if there else "teacher"

    def data(self) -> "ImageData":
        """The data set as sampling needs it: the real one where it comes with a package or the
        prior starts from it, else its shape, classes and labels as the store has them. Raises
        ConfigError where the files are needed and missing."""
        from orchestrator.plan.data import as_images

        path, settings = self.config.path, self.config.data
        if not settings.facts.packaged and not (
            path.kind == "kac" and path.signal == "exponential"
        ):
            return as_images(self.store.with_labels(self.trial.facts.data))
        try:
            return dataset_info.checked(dataset_info.images(settings), self.teacher)
        except (ValueError, OSError) as e:
            why = "" if settings.facts.packaged else ", whose images this path starts from"
            raise ConfigError([Fault(self.name, "data", f"{e}{why}")]) from None


def locate(
    text: str,
    storage: "Place | None" = None,
    tracking_uri: str | None = None,
    overrides: Sequence[str] = (),
) -> TrainedRun:
    """What `text` names; `overrides` are what --set changes of a file. Raises ConfigError that says
    what is expected."""
    name, _, number = (
        text.rpartition(":") if not Path(text).exists() and ":" in text else (text, "", "")
    )
    if "/" in number:  # an address or a path, and no trial
        name, number = text, ""
    if _is_file(text, name):
        return _of_file(text, overrides, storage)
    if overrides:
        what = f"got {text}, which is no file: its settings are those that it was run with"
        raise ConfigError([Fault(f"--set {overrides[0]}", "", what)])
    storage = HERE if storage is None else storage
    if text.startswith(MODELS):
        return _of_tracked(text, storage, tracking_uri)
    path = opening.parse_place(name)
    if (path / layout.PLAN).exists():
        return _of_sweep(path, number)
    if (path / layout.MANIFEST).exists() and not number:
        return _of_stage(path)
    if path.is_dir():
        what = (
            "a folder of no known kind: expected a sweep's (plan.json) or a stage's (manifest.json)"
        )
        raise ConfigError([Fault(text, "", what)])
    if RUN_ID.fullmatch(text):
        return _of_tracked(text, storage, tracking_uri)
    return _of_sweep(newest(name, storage), number)


def _is_file(text: str, name: str) -> bool:
    """Whether `text`, which is `name` without a trial's number, means an experiment's file, there
    or not."""
    if text.startswith(MODELS) or Path(text).is_dir():
        return False
    return Path(text).is_file() or (
        Path(name).suffix in (".yaml", ".yml") and not opening.parse_place(name).is_dir()
    )


def _of_file(path: str, overrides: Sequence[str], storage: "Place | None") -> TrainedRun:
    from orchestrator.store.store import Store

    config = load(path, overrides)
    if storage is not None and (
        also := [text for text in overrides if text.partition("=")[0].strip() == "storage"]
    ):
        raise ConfigError(
            [Fault("--storage", "", f"got {storage}, and --set {also[0]}: expected one of them")]
        )
    planned = opening.make_plan(config, path, "student")
    where = Store(config.storage if storage is None else storage)
    sets = [*overrides, *([] if storage is None else [f"storage={where.root}"])]
    return TrainedRun(
        path,
        planned.trials[0],
        config.sampling.model,
        where,
        path,
        planned.names,
        file=path,
        sets=sets,
    )


def _of_sweep(folder: Place, number: str, key: str | None = None) -> TrainedRun:
    """Trial `number` of a sweep, the best one for none; `key` is what the trial has to be for,
    where that is known."""
    records = opening.records_of(folder)
    trials, why = records.plan.trials, ""
    if (
        not number and key is not None
    ):  # a registered model knows what its trial was for, and no number
        number = next((str(t.index) for t in trials if t.key == key), "of the model")
    if number:
        index = int(number) if number.isdigit() else -1
    else:
        index, why = _best(records)
        if records.damaged:  # the best may be one of those
            raise DamagedError(str(records.store.root), records.damaged)
    if not 0 <= index < len(trials):
        raise ConfigError(
            [Fault(f"{folder}:{number}", "", f"expected a trial from 0 to {len(trials) - 1}")]
        )
    if key is not None and trials[index].key != key:
        raise ConfigError(
            [Fault(f"{folder}:{number}", "", "this trial is another than the one that was logged")]
        )
    origin = (
        f"trial {index} of {'/'.join(folder.absolute().parts[-2:])}{f' ({why})' if why else ''}"
    )
    model = trials[index].config.sampling.model
    sets = [
        "sweep=null",
        *(f"{key}={json.dumps(value)}" for key, value in trials[index].overrides.items()),
    ]
    file: Place | str = folder / layout.CONFIG
    if not isinstance(folder, Folder):  # no command takes an experiment from S3
        file = f"{records.plan.experiment.name}.yaml"
    if place_of(records.plan.experiment.storage).absolute() != records.store.root:  # a copy
        sets.append(f"storage={records.store.root}")
    names = records.plan.names
    return TrainedRun(
        str(folder), trials[index], model, records.store, origin, names, file=file, sets=sets
    )


def _best(records: "Records") -> tuple[int, str]:
    """The trial that a sweep stands for, by its number, and why: the best student's, as it is
    registered, or else the best one; of data whose numbers do not compare the first ones'. Where
    nothing is measured yet, a trained one."""
    from orchestrator.sweeps.ranking import metric_of, scale_of
    from orchestrator.tracking.registry import best

    metric, found = metric_of(records)[0], best(records)
    if found:
        first, *others = found
        what = "student" if first.config.sampling.model == "student" else "trial"
        why = f"the best {what}, {metric} {records.measured(first)[metric]:.4g}"
        told = [f"on {scale_of(records, other)} it is trial {other.index}" for other in others]
        return first.index, ", ".join(
            [f"{why} on {scale_of(records, first)}" if others else why, *told]
        )
    trained = [t for t in records.plan.trials if records.store.done(t.chain[-1].key)]
    students = [t for t in trained if t.config.sampling.model == "student"]
    return next((t.index for t in (*students, *trained)), 0), "none is measured yet"


def _of_stage(folder: Place) -> TrainedRun:
    """A stage alone knows no experiment: the one that made it is found among the sweeps of its
    storage."""
    from orchestrator.store.store import Store

    root, key = folder.absolute().parents[1], folder.absolute().name
    for plan_file in (root / layout.SWEEPS).find(layout.ANY_PLAN):
        plan = opening.records_of(plan_file.parent).plan
        for trial in plan.trials:
            told = (Store(root), f"a trial of {'/'.join(plan_file.parts[-3:-1])}", plan.names, True)
            if trial.chain[0].key == key:
                return TrainedRun(str(folder), trial, "teacher", *told)
            steps = next(
                (steps for steps, student in trial.students.items() if student.key == key), None
            )
            if steps is not None:
                values = {
                    "sampling.model": "student",
                    "sampling.solver": "euler",
                    "sampling.steps": steps,
                }
                config = override(
                    trial.config, {**values, "sampling.guidance": 1.0, "sampling.times": None}
                )
                return TrainedRun(str(folder), replace(trial, config=config), "student", *told)
    raise ConfigError(
        [
            Fault(
                str(folder),
                "",
                "no sweep under this storage has this stage as a teacher or student",
            )
        ]
    )


def sweep_folder(text: str, storage: Place) -> Place:
    """The folder of the sweep that `text` is, or that it names under `storage`; raises
    ConfigError."""
    folder = opening.parse_place(text)
    if (folder / layout.PLAN).exists():
        return folder
    try:
        return newest(text, storage, SWEEP)
    except ConfigError:
        if not folder.is_dir():
            raise
    return folder  # whoever reads it says what it lacks


def newest(name: str, storage: Place, expected: str = RUN) -> Place:
    """The folder of the sweep of `storage` called `name`, or `name/id`: of several the one that was
    run last. Raises ConfigError, with the names there are, and with what else was `expected`, where
    there is none."""
    root = storage / layout.SWEEPS
    there = root.find(layout.ANY_PLAN)
    called = [
        plan for plan in there if name in (plan.parent.parent.name, "/".join(plan.parts[-3:-1]))
    ]
    if called:
        return (max(called, key=last_run) if len(called) > 1 else called[0]).parent
    names = ", ".join(sorted({plan.parent.parent.name for plan in there})) or "none"
    what = f"no such file or folder, nor a sweep of {storage}, which has: {names}"
    raise ConfigError([Fault(name, "", f"{what}; expected {expected}")])


def _of_tracked(text: str, storage: Place, uri: str | None) -> TrainedRun:
    from orchestrator.networks.mlflow_lookup import find_model, find_run

    run = (find_model if text.startswith(MODELS) else find_run)(text, storage, uri)
    if run.stage_key:
        if not (storage / layout.STAGES / run.stage_key / layout.MANIFEST).exists():
            what = (
                f"its stage {run.stage_key} is not under {storage}: say with --storage where it is"
            )
            raise ConfigError([Fault(text, "", what)])
        return _of_stage(storage / layout.STAGES / run.stage_key)
    folder = storage / layout.SWEEPS / run.experiment / run.sweep_id
    if not (folder / layout.PLAN).exists():
        what = f"its sweep {run.experiment}/{run.sweep_id} is not under {storage}: say with --storage where it is"
        raise ConfigError([Fault(text, "", what)])
    return _of_sweep(folder, run.trial, run.trial_key or None)
