"""Opens a sweep: makes its plan from an experiment's file, or reads it from the sweep's folder."""

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from orchestrator.fields.addresses import S3, expanded
from orchestrator.fields.faults import ConfigError, Fault, describe
from orchestrator.fields.kind import without_foreign
from orchestrator.methods.dataset_kind import DatasetKind
from orchestrator.plan.expand import expand
from orchestrator.settings import loading
from orchestrator.settings.experiment import Experiment
from orchestrator.settings.rules.sampling import class_faults
from orchestrator.settings.space import with_values
from orchestrator.settings.tracking_address import sqlite_path
from orchestrator.store import layout
from orchestrator.store.place import Place
from orchestrator.store.places import Where, place_of
from orchestrator.store.training_images import enclosing_root
from orchestrator.sweeps import kept_plugins

if TYPE_CHECKING:  # imported later, torch with them, once the input is known to be valid
    from orchestrator.plan.plan import FactsOf, Plan
    from orchestrator.sweeps.records import Records

STORAGE = "runs"  # the default of `storage`


def parse_place(text: str, source: str | None = None) -> Place:
    """The folder or s3:// address of a command line's `text`; raises ConfigError where it is
    neither."""
    try:
        return place_of(text)
    except ValueError as e:
        raise ConfigError([Fault(source or text, "", str(e))]) from None


def check_store(root: Place) -> None:
    """Raise ConfigError where there is no store at `root`, or one that this version cannot read."""
    # jobs: of a sweep that waits for its allocation
    folders = (layout.STAGES, layout.SWEEPS, layout.JOBS)
    if not any((root / name).is_dir() for name in folders):
        problem = "which does not exist"
        if root.is_dir():
            problem = "expected a store: a folder with stages/ and sweeps/"
        raise ConfigError([Fault("--storage", "", f"got {root}, {problem}")])
    check_layout(root, "--storage")


def make_plan(
    experiment: Experiment, source: str, goal: str = "sweep", dry: bool = False
) -> "Plan":
    """The plan of an experiment; reads the data of each trial for their fingerprint. A sweep that
    grows gets the points of its earlier runs. `dry`: write and download nothing, and use known
    facts for data that are not on this machine. Raises ConfigError where a trial cannot run."""
    from orchestrator.plan import plan

    expand(experiment, source)  # refuse an invalid sweep before heavy imports
    facts_of = facts_reader(source, dry)
    planned = plan.make(experiment, facts_of, goal)
    if planned.grows:
        planned = plan.make(experiment, facts_of, goal, _points_of_earlier_runs(planned))
    faults = []
    for trial in planned.trials:
        if trial.facts.data.count is not None:  # the classes of missing files are unknown
            faults += class_faults(trial.config, trial.facts.data.classes)
    if faults:
        raise ConfigError(list(dict.fromkeys(replace(fault, source=source) for fault in faults)))
    return planned


def facts_reader(source: str, dry: bool = False) -> "FactsOf":
    """A function that reads the facts of a trial, each data set once. It raises ConfigError, with
    this `source`, where the data cannot be read or the features do not fit them."""
    from kaccore.metrics.features import features_for, second_for
    from orchestrator.plan.data import DatasetInfo, foresee, read
    from orchestrator.plan.plan import Facts

    datasets: dict[DatasetKind, DatasetInfo] = {}

    def facts(trial: Experiment) -> Facts:
        evaluation = trial.evaluation
        try:
            if trial.data not in datasets:
                datasets[trial.data] = foresee(trial.data) if dry else read(trial.data)
            features = features_for(
                trial.data.name, evaluation.features, evaluation.weights, trial.data.facts.points
            )
            second = second_for(
                trial.data.name, features, evaluation.second, trial.data.facts.points
            )
            return Facts(datasets[trial.data], features, second)
        except (ValueError, OSError) as e:
            raise ConfigError([Fault(source, "data", str(e))]) from None

    return facts


def _points_of_earlier_runs(plan: "Plan") -> list[dict[str, Any]]:
    """The points that earlier runs of the same sweep have added to its plan."""
    experiment = plan.experiment
    folder = place_of(experiment.storage) / layout.SWEEPS / plan.name
    try:
        return list(json.loads((folder / layout.PLAN).read_text())["points"])
    except (OSError, ValueError, KeyError, TypeError):
        return []  # the first run, or one that was killed while it began


def check_storage(experiment: Experiment, source: str) -> None:
    """Raise ConfigError where `storage` cannot be written, or its files would be read as training
    images; leaves no files."""
    _check_outside_images(experiment, source)
    if problem := place_of(experiment.storage).problem():
        raise ConfigError([Fault(source, "storage", f"got {experiment.storage}, {problem}")])
    check_layout(place_of(experiment.storage), source)


def _check_outside_images(experiment: Experiment, source: str) -> None:
    """Raise ConfigError where results would be in the folder of a trial's training images."""
    datasets = _all_data(experiment)
    uri = experiment.tracking.uri
    database = sqlite_path(uri) if uri is not None else ""  # MLflow's artifacts are beside it
    faults = []
    for key, value, path in (
        ("storage", experiment.storage, experiment.storage),
        ("tracking.uri", uri, database),
    ):
        if not path or path.startswith(S3):
            continue
        root = enclosing_root(expanded(path), datasets)
        if root:
            what = f"got {describe(value)}, which is in data.root, {describe(root)}"
            effect = "results would be read as images"
            remedy = f"set {key} to a place outside of it, or data.root to a folder of images only"
            faults.append(Fault(source, key, f"{what}: {effect}; {remedy}"))
    if faults:
        raise ConfigError(faults)


def _all_data(experiment: Experiment) -> list[DatasetKind]:
    """The data of the experiment, and all combinations that its sweep may try."""
    blocks = [{"data": experiment.data.model_dump(mode="json")}]
    space = {} if experiment.sweep is None else experiment.sweep.space
    for key in ("data.name", "data.root", "data.split"):
        values = space[key].values if key in space else ()
        blocks += [with_values(block, {key: value}) for block in list(blocks) for value in values]
    sound = [without_foreign(block["data"], "data")[0] for block in blocks]
    return [DatasetKind.family.validated(settings) for settings in sound]


def check_layout(root: Place, source: str) -> None:
    """Raise ConfigError where another version of this project wrote the store in a layout that this
    version cannot read."""
    from orchestrator.store.store import LAYOUT, Store

    try:
        version = Store(root).layout()
    except ConnectionError:
        raise
    except (OSError, ValueError, KeyError, TypeError) as e:
        what = f"got {root}, whose layout.json cannot be read: {e}"
        raise ConfigError([Fault(source, "storage", what)]) from None
    if version != LAYOUT:
        what = f"got {root}, a store of layout {version}, expected {LAYOUT}"
        remedy = "use the version that wrote it, or another folder"
        raise ConfigError([Fault(source, "storage", f"{what}: {remedy}")])


def records_of(folder: Where, before: "Records | None" = None) -> "Records":
    """The records of a sweep's folder, read from its files alone; raises ConfigError where it is no
    sweep's folder. `before`: records that were read earlier, whose finished results are not read
    again."""
    from orchestrator.plan import plan_file
    from orchestrator.settings import yaml_reader
    from orchestrator.store.store import Store
    from orchestrator.sweeps.records import Records

    folder = place_of(folder)
    config = folder / layout.CONFIG
    try:
        content = json.loads((folder / layout.PLAN).read_text())
        settings = yaml_reader.load_text(config.read_text(), str(config))
        experiment = loading.parse(settings, str(config), kept_plugins.read(folder, settings))
    except (ConnectionError, ConfigError):
        raise
    except (OSError, ValueError):
        what = "not a sweep's folder: expected plan.json, as in runs/sweeps/<name>/<id>"
        raise ConfigError([Fault(str(folder), "", what)]) from None
    try:
        plan = plan_file.of_noted(content, experiment)
    except ValueError as e:
        what = f"made by another version of this project ({e})"
        remedy = "run its experiment again, or use that version"
        raise ConfigError([Fault(str(folder), "", f"{what}: {remedy}")]) from None
    except (KeyError, TypeError, AttributeError, IndexError) as e:
        what = f"plan.json is damaged ({type(e).__name__}: {e})"
        remedy = "run its experiment again, which rewrites it"
        raise ConfigError([Fault(str(folder), "", f"{what}: {remedy}")]) from None
    records = Records(plan, Store(folder.absolute().parents[2]))
    if before is None:
        records.read_endings()
    else:
        records.reread(before)
    return records
