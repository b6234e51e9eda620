"""Looks up the trained networks that a command line names, and decides which one is sampled.

    FILE                an experiment's YAML, with what --set changes of it
    FOLDER              a stage's (runs/stages/<key>) or a sweep's; FOLDER:3 is trial 3 of a sweep
    NAME, NAME/ID       the sweep of that name, the newest, or the one with that id; NAME:3 is its trial 3
    an MLflow run id    of a stage, a trial or a sweep
    models:/NAME        the registered model, its newest version; also models:/NAME/VERSION, models:/NAME@ALIAS

A name is looked up under --storage, which also replaces a FILE's own storage; MLflow's runs and
models are looked up in --tracking-uri. Nothing is trained, and Ray is not started.

A sweep without a trial number means the best trial of a student, as for the registered model, or the
best trial if there are no students. One rule decides which network is sampled:

    --model             names it
    a stage             is a network itself
    --steps N           the student of N steps if it is trained and --solver and --guidance are not for teachers only;
                        else the teacher
    none of these       the one that the trial, or the file, samples
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orchestrator.fields.faults import ConfigError, Fault
from orchestrator.fields.options import option, setting
from orchestrator.networks.mlflow_lookup import MODELS
from orchestrator.plan import data as dataset_info
from orchestrator.plan.plan import Trial
from orchestrator.plan.stage import Stage
from orchestrator.settings.experiment import Experiment
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

EXPECTED_RUN = (
    "an experiment's YAML, a stage's folder, a sweep's folder, name or name/id, also with :TRIAL, an MLflow run id, or "
    "a registered model as models:/NAME"
)
EXPECTED_SWEEP = "a sweep as name (its newest), name/id or folder"
HERE = Folder(opening.STORAGE)
RUN_ID = re.compile("[0-9a-f]{32}")


@dataclass(frozen=True)
class TrainedRun:
    """The networks of one trial in a store. `model`, teacher or student, is the one to sample unless
    options ask for another. `file`, with the `--set` texts `sets`, is the experiment that trains
    them.

    `origin`: where the trial comes from, as a text; `names`: stage key -> its name in the sweep;
    `fixed`: the user named a network, and not a trial."""

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

    def stage_name(self, stage: Stage) -> str:
        """The name of one of the trial's stages, unique in its sweep."""
        return self.names.get(stage.key, stage.label)

    def choose_network(self, steps: int | None, solver: Any = None, guidance: Any = None) -> str:
        """The network to sample, teacher or student, for these options: see the rule above."""
        if steps is None or self.fixed:
            return self.model
        student = self.trial.students.get(steps)
        for_teachers_only = solver not in (None, "euler") or guidance not in (None, 1)
        if student is None or for_teachers_only:
            return "teacher"
        done = self.store.done
        # if neither is trained, the student is the one that a message names as missing
        return "student" if done(student.key) or not done(self.teacher.key) else "teacher"

    def data(self) -> "ImageData":
        """The data set as sampling needs it: the real one if it comes with a package or the prior
        contains it, else its shape, classes and labels from the store. Raises ConfigError if files
        are needed and missing."""
        from orchestrator.plan.data import as_images

        path, settings = self.config.path, self.config.data
        if not settings.facts.packaged and not path.starts_from_data:
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
    """The run that `text` names; `overrides`: the --set texts, for a file. Raises ConfigError."""
    name, number = text, ""
    if ":" in text and not Path(text).exists():
        before, _, after = text.rpartition(":")
        if "/" not in after:  # else an address or a path
            name, number = before, after
    if _is_file(text, name):
        return _from_file(text, overrides, storage)
    if overrides:
        what = f"got {text}, which is not an experiment file: the settings of a finished run cannot change"
        raise ConfigError([Fault(setting(overrides[0]), "", what)])
    storage = HERE if storage is None else storage
    if text.startswith(MODELS):
        return _from_mlflow(text, storage, tracking_uri)
    path = opening.parse_place(name)
    if (path / layout.PLAN).exists():
        return _from_sweep(path, number)
    if (path / layout.MANIFEST).exists() and not number:
        return _from_stage(path)
    if path.is_dir():
        what = "not the folder of a sweep (it has no plan.json) or of a stage (no manifest.json)"
        raise ConfigError([Fault(text, "", what)])
    if RUN_ID.fullmatch(text):
        return _from_mlflow(text, storage, tracking_uri)
    return _from_sweep(newest_sweep(name, storage), number)


def _is_file(text: str, name: str) -> bool:
    """Whether `text`, which is `name` without a trial number, names an experiment file, existing or
    not."""
    if text.startswith(MODELS) or Path(text).is_dir():
        return False
    return Path(text).is_file() or (
        Path(name).suffix in (".yaml", ".yml") and not opening.parse_place(name).is_dir()
    )


def _from_file(path: str, overrides: Sequence[str], storage: "Place | None") -> TrainedRun:
    from orchestrator.store.store import Store

    config = load(path, overrides)
    also = [text for text in overrides if text.partition("=")[0].strip() == "storage"]
    if storage is not None and also:
        raise ConfigError(
            [
                Fault(
                    option("storage"),
                    "",
                    f"got {storage} and {setting(also[0])}: expected only one of them",
                )
            ]
        )
    planned = opening.make_plan(config, path, "student")
    trial, model = planned.trials[0], config.sampling.model
    sets = list(overrides)
    store = Store(config.storage if storage is None else storage)
    if storage is not None:
        sets.append(f"storage={store.root}")
    return TrainedRun(path, trial, model, store, path, planned.names, file=path, sets=sets)


def _from_sweep(folder: Place, number: str, key: str | None = None) -> TrainedRun:
    """Trial `number` of a sweep, by default the best one; `key`: the key that the trial must have,
    if it is known."""
    records = opening.records_of(folder)
    trials, why = records.plan.trials, ""
    if not number and key is not None:  # a registered model has its trial's key, but no number
        number = next((str(t.index) for t in trials if t.key == key), "of the model")
    if number:
        index = int(number) if number.isdigit() else -1
    else:
        index, why = _default_trial(records)
        if records.damaged:  # the best trial may be among them
            raise DamagedError(str(records.store.root), records.damaged)
    if not 0 <= index < len(trials):
        raise ConfigError(
            [Fault(f"{folder}:{number}", "", f"expected a trial from 0 to {len(trials) - 1}")]
        )
    if key is not None and trials[index].key != key:
        raise ConfigError(
            [Fault(f"{folder}:{number}", "", "this is not the trial that MLflow logged")]
        )
    origin = f"trial {index} of {'/'.join(folder.absolute().parts[-2:])}"
    if why:
        origin += f" ({why})"
    model = trials[index].config.sampling.model
    sets = ["sweep=null"]
    for name, value in trials[index].overrides.items():
        sets.append(f"{name}={json.dumps(value)}")
    file: Place | str = folder / layout.CONFIG
    if not isinstance(folder, Folder):  # commands do not read experiment files from S3
        file = f"{records.plan.experiment.name}.yaml"
    if place_of(records.plan.experiment.storage).absolute() != records.store.root:  # a copy
        sets.append(f"storage={records.store.root}")
    names = records.plan.names
    return TrainedRun(
        str(folder), trials[index], model, records.store, origin, names, file=file, sets=sets
    )


def _default_trial(records: "Records") -> tuple[int, str]:
    """The number of the trial that a sweep means, and why: the best trial of a student, as for the
    registered model, or else the best trial, on the first data set and features. If nothing is
    measured yet, a trained trial."""
    from orchestrator.sweeps.ranking import metric_of, scale_of
    from orchestrator.tracking.registry import best_trials

    metric, best = metric_of(records)[0], best_trials(records)
    if best:
        first, *others = best
        what = "trial of a student" if first.config.sampling.model == "student" else "trial"
        why = f"the best {what}, {metric} {records.measured(first)[metric]:.4g}"
        if others:
            why += f" on {scale_of(records, first)}"
        for other in others:
            why += f", on {scale_of(records, other)} it is trial {other.index}"
        return first.index, why
    trained = [t for t in records.plan.trials if records.store.done(t.chain[-1].key)]
    students = [t for t in trained if t.config.sampling.model == "student"]
    index = next((t.index for t in (*students, *trained)), 0)
    return index, "none is measured yet"


def _from_stage(folder: Place) -> TrainedRun:
    """The run of a stage. A stage does not store its experiment: it is looked up in the sweeps of
    its storage."""
    from orchestrator.store.store import Store

    root, key = folder.absolute().parents[1], folder.absolute().name
    for plan_file in (root / layout.SWEEPS).find(layout.ANY_PLAN):
        plan = opening.records_of(plan_file.parent).plan
        for trial in plan.trials:
            origin = f"a trial of {'/'.join(plan_file.parts[-3:-1])}"
            common = (Store(root), origin, plan.names, True)
            if trial.chain[0].key == key:
                return TrainedRun(str(folder), trial, "teacher", *common)
            for steps, student in trial.students.items():
                if student.key == key:
                    config = override(trial.config, _student_sampling(steps))
                    return TrainedRun(
                        str(folder), replace(trial, config=config), "student", *common
                    )
    problem = "no sweep under this storage has this stage as a teacher or student"
    raise ConfigError([Fault(str(folder), "", problem)])


def _student_sampling(steps: int) -> dict[str, Any]:
    return {
        "sampling.model": "student",
        "sampling.solver": "euler",
        "sampling.steps": steps,
        "sampling.guidance": 1.0,
        "sampling.times": None,
    }


def sweep_folder(text: str, storage: Place) -> Place:
    """The sweep's folder: `text` itself, or the sweep that it names under `storage`; raises
    ConfigError."""
    folder = opening.parse_place(text)
    if (folder / layout.PLAN).exists():
        return folder
    try:
        return newest_sweep(text, storage, EXPECTED_SWEEP)
    except ConfigError:
        if not folder.is_dir():
            raise
    return folder  # reading it raises what is wrong


def newest_sweep(name: str, storage: Place, expected: str = EXPECTED_RUN) -> Place:
    """The folder of the sweep `name`, or `name/id`, in `storage`; of several the one that was run
    last. Raises ConfigError, with the names of the sweeps and what else is `expected`, if there is
    none."""
    root = storage / layout.SWEEPS
    plans = root.find(layout.ANY_PLAN)
    matching = [
        plan for plan in plans if name in (plan.parent.parent.name, "/".join(plan.parts[-3:-1]))
    ]
    if len(matching) == 1:
        return matching[0].parent
    if matching:
        return max(matching, key=last_run).parent
    names = ", ".join(sorted({plan.parent.parent.name for plan in plans})) or "none"
    what = f"neither a file or folder nor a sweep of {storage}, which has: {names}"
    raise ConfigError([Fault(name, "", f"{what}; expected {expected}")])


def _from_mlflow(text: str, storage: Place, uri: str | None) -> TrainedRun:
    from orchestrator.networks.mlflow_lookup import find_model, find_run

    run = (find_model if text.startswith(MODELS) else find_run)(text, storage, uri)
    if run.stage_key:
        if not (storage / layout.STAGES / run.stage_key / layout.MANIFEST).exists():
            what = f"its stage {run.stage_key} is not under {storage}: set {option('storage')} to its storage"
            raise ConfigError([Fault(text, "", what)])
        return _from_stage(storage / layout.STAGES / run.stage_key)
    folder = storage / layout.SWEEPS / run.experiment / run.sweep_id
    if not (folder / layout.PLAN).exists():
        what = f"its sweep {run.experiment}/{run.sweep_id} is not under {storage}"
        what += f": set {option('storage')} to its storage"
        raise ConfigError([Fault(text, "", what)])
    return _from_sweep(folder, run.trial, run.trial_key or None)
