"""A run or a registered model in MLflow, looked up: which stage, trial or sweep it is a view of."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from orchestrator.settings.faults import ConfigError, Fault
from orchestrator.store.folder import Folder
from orchestrator.store.place import Place
from orchestrator.tracking.client import connect
from orchestrator.tracking.server import explain_request_error
from orchestrator.tracking.tracker import PARENT
from orchestrator.tracking.uri import is_server, local_file, tracking_uri

MODELS = "models:/"  # how MLflow begins the address of a registered model


@dataclass(frozen=True)
class Logged:
    """What MLflow says of something: a stage by its key, or a sweep by its id and perhaps a trial
    of it, by its number or by its key alone."""

    experiment: str
    stage_key: str = ""
    sweep_id: str = ""
    trial: str = ""
    trial_key: str = ""


def find_run(run_id: str, storage: Place, uri: str | None) -> Logged:
    """The run `run_id` in the tracking store `uri`, or else in the one under `storage`. Raises
    ConfigError where it is not there or none of ours."""
    with _asked(f"run {run_id}", storage, uri) as client:
        run = client.get_run(run_id)
        tags = run.data.tags
        sweep = client.get_run(tags[PARENT]).data.tags if PARENT in tags else tags
        experiment = str(client.get_experiment(run.info.experiment_id).name)
    if "stage_key" not in tags and "sweep_id" not in sweep:
        raise ConfigError(
            [Fault(run_id, "", "a run, but no sweep, trial or stage of this project")]
        )
    found = {key: tags.get(key, "") for key in ("stage_key", "trial", "trial_key")}
    return Logged(experiment, sweep_id=sweep.get("sweep_id", ""), **found)


def find_model(model: str, storage: Place, uri: str | None) -> Logged:
    """The trial whose network is the registered `model`, as MLflow writes it: models:/NAME (the
    newest version), models:/NAME/VERSION or models:/NAME@ALIAS. Where and what is raised: as for
    `find_run`."""
    name, _, version = model.removeprefix(MODELS).partition("/")
    name, _, alias = name.partition("@")
    with _asked(model, storage, uri) as client:
        if alias:
            found = client.get_model_version_by_alias(name, alias)
        elif version.isdigit():
            found = client.get_model_version(name, version)
        else:
            every = client.search_model_versions(f"name = '{name}'")
            if not every or version not in ("", "latest"):
                raise LookupError(
                    f"no registered model {name} with a version {version or 'at all'}"
                )
            found = max(every, key=lambda v: int(v.version))
        tags = found.tags
        experiment = str(
            client.get_experiment(client.get_run(found.run_id).info.experiment_id).name
        )
    if "sweep_id" not in tags:
        raise ConfigError([Fault(model, "", "a registered model, but none of this project")])
    return Logged(experiment, sweep_id=tags["sweep_id"], trial_key=tags["trial_key"])


@contextmanager
def _asked(what: str, storage: Place, uri: str | None) -> Iterator[Any]:
    """A client of the tracking store `uri`, or else of the one under `storage`; any answer of it
    but the one wanted is raised as a ConfigError that names `what` was looked up."""
    if uri is None and not isinstance(storage, Folder):
        problem = f"{storage} has no MLflow of its own: say where {what} is to be found"
        raise ConfigError([Fault("--tracking-uri", "", problem)])
    named, uri = ("--storage" if uri is None else "--tracking-uri"), tracking_uri(uri, storage)
    file = local_file(uri)
    if file is not None and not file.exists():  # to connect would make it
        raise ConfigError(
            [Fault(named, "", f"{what} is looked up in {uri}, but {file} is not there")]
        )
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")  # somebody waits for the answer
    try:
        yield connect(uri, lambda line: print(line, file=sys.stderr))
    except Exception as e:  # whatever MLflow, its database or its server makes of it
        why = explain_request_error(e, uri) if is_server(uri) else ""
        why = why or (str(e).strip().splitlines()[0] if str(e).strip() else type(e).__name__)
        raise ConfigError(
            [Fault(named, "", f"{what} is not to be had from {uri}: {why}")]
        ) from None
