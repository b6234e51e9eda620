"""Looks up the stage, trial or sweep of a run or a registered model in MLflow."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from orchestrator.fields.faults import ConfigError, Fault
from orchestrator.fields.options import option
from orchestrator.store.folder import Folder
from orchestrator.store.place import Place
from orchestrator.tracking.client import connect
from orchestrator.tracking.entities import AGGREGATE
from orchestrator.tracking.means import SEEDS
from orchestrator.tracking.server import explain_request_error
from orchestrator.tracking.shared_copy import fetch
from orchestrator.tracking.tracker import PARENT
from orchestrator.tracking.uri import embedded, is_server, local_file, tracking_uri

MODELS = "models:/"  # how MLflow begins the address of a registered model


@dataclass(frozen=True)
class LoggedRun:
    """What MLflow has: the key of a stage, or the id of a sweep and possibly a trial of it, by its
    number or only by its key."""

    experiment: str
    stage_key: str = ""
    sweep_id: str = ""
    trial: str = ""
    trial_key: str = ""


def find_run(run_id: str, storage: Place, uri: str | None) -> LoggedRun:
    """The run `run_id` in the tracking store `uri`, by default the one under `storage`. Raises
    ConfigError if it is missing, not a run of this project, or of several networks."""
    with _tracking_client(f"run {run_id}", storage, uri) as client:
        run = client.get_run(run_id)
        tags = run.data.tags
        sweep = client.get_run(tags[PARENT]).data.tags if PARENT in tags else tags
        experiment = str(client.get_experiment(run.info.experiment_id).name)
    if tags.get("kind") == AGGREGATE:
        what = f"has the mean over several networks: give a run of one of the trials {tags[SEEDS]}"
        raise ConfigError([Fault(run_id, "", what)])
    if "stage_key" not in tags and "sweep_id" not in sweep:
        raise ConfigError(
            [Fault(run_id, "", "not a run of a sweep, trial or stage of this project")]
        )
    values = {key: tags.get(key, "") for key in ("stage_key", "trial", "trial_key")}
    return LoggedRun(experiment, sweep_id=sweep.get("sweep_id", ""), **values)


def find_model(model: str, storage: Place, uri: str | None) -> LoggedRun:
    """The trial whose network is the registered `model`, in MLflow's notation: models:/NAME (the
    newest version), models:/NAME/VERSION or models:/NAME@ALIAS. The other arguments and the errors
    are those of `find_run`."""
    name, _, version = model.removeprefix(MODELS).partition("/")
    name, _, alias = name.partition("@")
    with _tracking_client(model, storage, uri) as client:
        if alias:
            registered = client.get_model_version_by_alias(name, alias)
        elif version.isdigit():
            registered = client.get_model_version(name, version)
        else:
            versions = client.search_model_versions(f"name = '{name}'")
            if not versions:
                raise LookupError(f"there is no registered model {name}")
            if version not in ("", "latest"):
                raise LookupError(f"the registered model {name} has no version {version}")
            registered = max(versions, key=lambda v: int(v.version))
        tags = registered.tags
        run = client.get_run(registered.run_id)
        experiment = str(client.get_experiment(run.info.experiment_id).name)
    if "sweep_id" not in tags:
        raise ConfigError([Fault(model, "", "not a registered model of this project")])
    return LoggedRun(experiment, sweep_id=tags["sweep_id"], trial_key=tags["trial_key"])


@contextmanager
def _tracking_client(what: str, storage: Place, uri: str | None) -> Iterator[Any]:
    """A client of the tracking store `uri`, by default the one under `storage`. Errors inside the
    block are raised as a ConfigError that names `what` is looked up."""
    if uri is None and not isinstance(storage, Folder):
        problem = f"{storage} has no MLflow database: set the tracking store that has {what}"
        raise ConfigError([Fault(option("tracking_uri"), "", problem)])
    named = option("storage" if uri is None else "tracking_uri")
    if uri is None and isinstance(storage, Folder):
        fetch(storage, embedded(storage))
    uri = tracking_uri(uri, storage)
    file = local_file(uri)
    if file is not None and not file.exists():  # connecting would create it
        raise ConfigError(
            [Fault(named, "", f"{what} is looked up in {uri}, but there is no {file}")]
        )
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")  # a user waits for the answer
    try:
        yield connect(uri, lambda line: print(line, file=sys.stderr))
    except Exception as e:  # whatever MLflow, its database or its server raises
        why = explain_request_error(e, uri) if is_server(uri) else ""
        if not why:
            lines = str(e).strip().splitlines()
            why = lines[0] if lines else type(e).__name__
        raise ConfigError([Fault(named, "", f"cannot get {what} from {uri}: {why}")]) from None
