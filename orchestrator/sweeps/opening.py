"""Opening a sweep: its plan is made from an experiment's file, or read from the sweep's folder."""

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from orchestrator.fields.addresses import S3, expanded
from orchestrator.fields.faults import ConfigError, Fault, describe
from orchestrator.methods.dataset_kind import DatasetKind
from orchestrator.plan.expand import expand
from orchestrator.settings import loading
from orchestrator.settings.experiment import Experiment
from orchestrator.settings.rules.sampling import class_faults
from orchestrator.settings.tracking_address import sqlite_path
from orchestrator.store import layout
from orchestrator.store.place import Place
from orchestrator.store.places import Where, place_of
from orchestrator.store.training_images import enclosing_root

if (
    TYPE_CHECKING
):  # at run time these, and torch with them, are imported when the input is known to be sound
    from orchestrator.plan.plan import FactsOf, Plan
    from orchestrator.sweeps.records import Records

STORAGE = "runs"  # where experiments that name no other storage have it


def place(text: str, source: str | None = None) -> Place:
    """The folder or s3:// address that a command line's `text` means; raises ConfigError where it
    is neither."""
    try:
        return place_of(text)
    except ValueError as e:
        raise ConfigError([Fault(source or text, "", str(e))]) from None


def check_store(root: Place) -> None:
    """Raise ConfigError where there is no store at `root`, or one that this version cannot read."""
    if not (root / layout.STAGES).is_dir() and not (root / layout.SWEEPS).is_dir():
        there = (
            "expected a store: a folder with stages/ and sweeps/"
            if root.is_dir()
            else "which is not there"
        )
        raise ConfigError([Fault("--storage", "", f"got {root}, {there}")])
    check_layout(root, "--storage")


def make_plan(
    experiment: Experiment, source: str, goal: str = "sweep", dry: bool = False
) -> "Plan":
    """The plan of an experiment, the data of each trial read for their fingerprint; of a sweep that
    grows with the points that earlier runs have drawn. `dry`: nothing is written or fetched, and
    data that are not here are planned by what is known of them. Raises ConfigError where a trial
    cannot be run."""
    from orchestrator.plan import plan

    expand(experiment, source)  # refuse a wrong sweep before anything heavy is imported
    facts_of = facts_by(source, dry)
    planned = plan.make(experiment, facts_of, goal)
    if planned.grows:
        planned = plan.make(experiment, facts_of, goal, _drawn_before(planned))
    read = [
        t for t in planned.trials if t.facts.data.count is not None
    ]  # of missing files nobody knows the classes
    faults = [fault for t in read for fault in class_faults(t.config, t.facts.data.classes)]
    if faults:
        raise ConfigError(list(dict.fromkeys(replace(fault, source=source) for fault in faults)))
    return planned


def facts_by(source: str, dry: bool = False) -> "FactsOf":
    """What tells the facts of a trial; it raises ConfigError, named after `source`, where the data
    cannot be read or the features do not suit them."""
    from kaccore.metrics.features import features_for
    from orchestrator.plan.data import DatasetInfo, foresee, read
    from orchestrator.plan.plan import Facts

    known: dict[DatasetKind, DatasetInfo] = {}  # each is read once

    def facts(trial: Experiment) -> Facts:
        evaluation = trial.evaluation
        try:
            if trial.data not in known:
                known[trial.data] = foresee(trial.data) if dry else read(trial.data)
            features = features_for(trial.data.name, evaluation.features, evaluation.weights)
            return Facts(known[trial.data], features)
        except (ValueError, OSError) as e:
            raise ConfigError([Fault(source, "data", str(e))]) from None

    return facts


def _drawn_before(plan: "Plan") -> list[dict[str, Any]]:
    """The points that earlier runs of the same sweep have drawn."""
    noted = (
        place_of(plan.experiment.storage)
        / layout.SWEEPS
        / plan.experiment.name
        / plan.id
        / layout.PLAN
    )
    try:
        return list(json.loads(noted.read_text())["points"])
    except (OSError, ValueError, KeyError, TypeError):
        return []  # the first run, or one that was killed while it began


def check_storage(experiment: Experiment, source: str) -> None:
    """Raise ConfigError where `storage` cannot be written, or would be read as training images;
    writes nothing that stays."""
    _check_apart(experiment, source)
    if problem := place_of(experiment.storage).problem():
        raise ConfigError([Fault(source, "storage", f"got {experiment.storage}, {problem}")])
    check_layout(place_of(experiment.storage), source)


def _check_apart(experiment: Experiment, source: str) -> None:
    """Raise ConfigError where results would lie among the images that a trial is trained on."""
    every = [experiment.data]
    space = {} if experiment.sweep is None else experiment.sweep.space
    for key in ("data.name", "data.root", "data.split"):
        values = space[key].values if key in space else ()
        every += [
            data.model_copy(update={key.removeprefix("data."): v})
            for data in list(every)
            for v in values
        ]
    faults = []
    uri = experiment.tracking.uri
    file = sqlite_path(uri) if uri is not None else ""  # artifacts lie beside it
    for key, told, where in (
        ("storage", experiment.storage, experiment.storage),
        ("tracking.uri", uri, file),
    ):
        if where and not where.startswith(S3) and (root := enclosing_root(expanded(where), every)):
            what = f"got {describe(told)}, which lies in data.root, {describe(root)}: results would be read as images"
            faults.append(
                Fault(
                    source,
                    key,
                    f"{what}; set {key} to a place outside of it, or data.root to a folder"
                    " with images alone",
                )
            )
    if faults:
        raise ConfigError(faults)


def check_layout(root: Place, source: str) -> None:
    """Raise ConfigError where the store was written by a version of this project that this one
    cannot read."""
    from orchestrator.store.store import LAYOUT, Store

    try:
        found = Store(root).layout()
    except ConnectionError:
        raise
    except (OSError, ValueError, KeyError, TypeError) as e:
        raise ConfigError(
            [Fault(source, "storage", f"got {root}, whose layout.json cannot be read: {e}")]
        ) from None
    if found != LAYOUT:
        what = f"got {root}, a store of layout {found}, expected {LAYOUT}"
        raise ConfigError(
            [Fault(source, "storage", f"{what}: use the version that wrote it, or another folder")]
        )


def records_of(folder: Where, before: "Records | None" = None) -> "Records":
    """The records of a sweep's folder, read from its files alone; raises ConfigError where it is
    none. `before`: what was read of it earlier, whose finished results are not asked for again."""
    from orchestrator.plan import plan_file
    from orchestrator.settings import yaml_reader
    from orchestrator.store.store import Store
    from orchestrator.sweeps.records import Records

    folder = place_of(folder)
    noted = folder / layout.CONFIG
    try:
        planned = json.loads((folder / layout.PLAN).read_text())
        experiment = loading.parse(yaml_reader.load_text(noted.read_text(), str(noted)), str(noted))
    except ConnectionError:
        raise
    except (OSError, ValueError) as e:
        if isinstance(e, ConfigError):
            raise
        raise ConfigError(
            [
                Fault(
                    str(folder),
                    "",
                    "not a sweep's folder: expected plan.json, as in runs/sweeps/<name>/<id>",
                )
            ]
        ) from None
    try:
        plan = plan_file.of_noted(planned, experiment)
    except ValueError as e:
        what = f"made by another version of this project ({e}): run its experiment again, or use that version"
        raise ConfigError([Fault(str(folder), "", what)]) from None
    except (KeyError, TypeError, AttributeError, IndexError) as e:
        what = f"plan.json is damaged ({type(e).__name__}: {e}): run its experiment again, which writes it anew"
        raise ConfigError([Fault(str(folder), "", what)]) from None
    records = Records(plan, Store(folder.absolute().parents[2]))
    if before is None:
        records.read_endings()
    else:
        records.follow(before)
    return records
