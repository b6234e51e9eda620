"""MLflow as a view of the store: `publish` makes what is missing there, once, and can be called at any time.

The driver is the only process that writes. A run is recognised by tags (`sweep_id`, `stage_key`, `trial_key`), so
publishing again, after a crash or with an empty database, gives the same runs and no double ones.
"""

import os
import time
from pathlib import Path
from typing import Any

from orchestrator import registry
from orchestrator.addresses import expanded_uri
from orchestrator.early_stopping import fids
from orchestrator.entities import MADE_BY, begin_and_end, curves, dataset_input, made_by_tags, scores
from orchestrator.graph import TRAINING, Stage
from orchestrator.places import Place
from orchestrator.plan import Trial
from orchestrator.records import STOPPED, Records
from orchestrator.stage_result import DamagedError
from orchestrator.students import intervals_text

PARENT = "mlflow.parentRunId"
SQLITE = "sqlite:///"
COMPARED = 100  # trials that MLflow's comparison page still draws at once
STATUSES = {"done": "FINISHED", "failed": "FAILED", STOPPED: "KILLED"}  # of trials that are over
HEADLINE = {  # the settings that every trial logs, beside what is swept; the rest is in config.yaml
    "damping": "path.damping",
    "speed": "path.speed",
    "clock": "path.clock",
    "nfe": "sampling.steps",
    "solver": "sampling.solver",
    "guidance": "sampling.guidance",
    "path": "path.kind",
    "distiller": "distill.kind",
}


def tracking_uri(records: Records) -> str:
    """The tracking store: `tracking.uri`, or the embedded SQLite file under `storage`."""
    uri = records.plan.experiment.tracking.uri
    return expanded_uri(uri) if uri else f"sqlite:///{records.store.root / 'mlflow.db'}"


def connect(uri: str) -> Any:
    """A client of the tracking store `uri`, without MLflow's own talk; a database is made, or brought up to date."""
    for name, value in (("DISABLE_TELEMETRY", "true"), ("ENABLE_ARTIFACTS_PROGRESS_BAR", "false")):
        os.environ.setdefault(f"MLFLOW_{name}", value)
    import logging

    from mlflow import MlflowClient

    for name in ("mlflow", "mlflow.store.db.utils", "alembic"):  # each sets its own level when imported
        logging.getLogger(name).setLevel(logging.CRITICAL)  # what fails is raised too
    if uri.startswith(SQLITE) and not Path(uri.removeprefix(SQLITE)).exists():
        _make_database(Path(uri.removeprefix(SQLITE)))
    return MlflowClient(tracking_uri=uri)


def _make_database(path: Path) -> None:
    """A new database, made aside and put in place as a whole: MLflow cannot go on with one that a full disk, or a
    killed process, has left half made. Where another process is faster, its database stays."""
    from mlflow import MlflowClient

    aside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    aside.parent.mkdir(parents=True, exist_ok=True)
    aside.unlink(missing_ok=True)
    try:
        MlflowClient(tracking_uri=f"{SQLITE}{aside}").search_experiments(max_results=1)
        try:
            os.link(aside, path)
        except FileExistsError:
            pass
        except OSError:  # a file system without links
            aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)


class Tracker:
    """Publishes one sweep. Construction connects, and migrates a new database (some seconds)."""

    def __init__(self, records: Records) -> None:
        self.records = records
        self.client = connect(tracking_uri(records))
        self.experiment = self._experiment()
        self.parent = self._parent()
        self.published: dict[str, str] = self._already()

    def publish(self) -> None:
        """Log every finished stage and every ended trial that MLflow does not have yet."""
        for stage in self.records.plan.stages(TRAINING):
            if stage.key not in self.published and self.records.store.done(stage.key):
                try:
                    self._publish_stage(stage)
                except DamagedError as e:  # the next run makes it again, and publishes it
                    self.records.damaged |= e.found
        for trial, ending in self.records.entries():
            name = f"trial:{trial.index}"
            self.records.measured(trial)
            if ending.status in STATUSES and name not in self.published and trial.key not in self.records.damaged:
                self.published[name] = self._publish_trial(trial, ending.status, ending.error)
            if (run_id := self.published.get(name, "")) != ending.mlflow_run_id:
                self.records.update(trial.index, mlflow_run_id=run_id)

    def close(self, status: str) -> None:
        """Attach the sweep's report and table, end its run with `status` (FINISHED, FAILED or KILLED), and, unless it
        was killed, register its best network."""
        folder = self.records.folder
        for file in (folder / "report.html", folder / "results.csv", *(folder / "figures").find("*.png")):
            if file.exists():
                self.client.log_artifact(self.parent, str(file.local()))
        self.client.log_artifact(self.parent, str((folder / "config.yaml").local()))
        self.client.set_terminated(self.parent, status)
        if status != "KILLED":
            registry.register(self.client, self.records, self.client.get_run(self.parent))

    def _experiment(self) -> str:
        name = self.records.plan.experiment.name
        found = self.client.get_experiment_by_name(name)
        if found is not None:
            if found.lifecycle_stage == "deleted":
                self.client.restore_experiment(found.experiment_id)
            return str(found.experiment_id)
        uri = tracking_uri(self.records)
        embedded = uri.startswith(SQLITE)  # what MLflow would choose is a folder where this process happens to stand
        beside = Path(uri.removeprefix(SQLITE)).absolute().parent
        location = (beside / "mlartifacts" / name).as_uri() if embedded else None
        return str(self.client.create_experiment(name, artifact_location=location))

    def _parent(self) -> str:
        plan, made_by = self.records.plan, made_by_tags(self.records.made_by())
        found = self.client.search_runs([self.experiment], f"tags.kind = 'sweep' and tags.sweep_id = '{plan.id}'")
        if found:
            run_id = str(found[0].info.run_id)
            self.client.update_run(run_id, status="RUNNING")
            self._correct_tags(run_id, found[0].data.tags, made_by)
            return run_id
        tags = {"kind": "sweep", "sweep_id": plan.id, **made_by}
        run = self.client.create_run(self.experiment, tags=tags, run_name=f"sweep {plan.id}")
        return str(run.info.run_id)

    def _correct_tags(self, run_id: str, there: dict[str, str], made_by: dict[str, str]) -> None:
        """A sweep that goes on is made by whoever ran it last."""
        for name in there.keys() & MADE_BY - made_by.keys():
            self.client.delete_tag(run_id, name)
        for name, value in made_by.items():
            if there.get(name) != value:
                self.client.set_tag(run_id, name, value)

    def _already(self) -> dict[str, str]:
        """What MLflow has: stages of this experiment by key, this sweep's trials whose ending is still so."""
        found: dict[str, str] = {}
        for run in self._all_runs("tags.stage_key LIKE '%'"):
            tags = run.data.tags
            if run.info.status != "RUNNING":
                found[tags["stage_key"]] = run.info.run_id
            elif tags[PARENT] == self.parent:  # a process was killed, or a server lost, while this was published
                self.client.delete_run(run.info.run_id)
        for run in self._all_runs(f"tags.kind = 'trial' and tags.`{PARENT}` = '{self.parent}'"):
            index = int(run.data.tags["trial"])
            if STATUSES.get(self.records.endings[index].status) == run.info.status:
                found[f"trial:{index}"] = run.info.run_id
            else:  # it was interrupted or failed then and will end anew
                self.client.delete_run(run.info.run_id)
        return found

    def _all_runs(self, query: str) -> list[Any]:
        runs, token = [], None
        while True:
            page = self.client.search_runs([self.experiment], query, max_results=1000, page_token=token)
            runs += page
            token = page.token
            if not token:
                return runs

    def _publish_stage(self, stage: Stage) -> None:
        from mlflow.entities import Param

        result = self.records.store.result(stage.key)
        start, end = begin_and_end(result.manifest)
        tags = {"kind": stage.kind, "stage_key": stage.key, PARENT: self.parent}
        tags |= made_by_tags(result.manifest.get("made_by", {}))
        name = self.records.plan.names[stage.key]
        run = self.client.create_run(self.experiment, start_time=start, tags=tags, run_name=name)
        self.client.log_inputs(run.info.run_id, [dataset_input(stage, self.records.store, "training")])
        path, optimise = stage.lineage()[0].config["path"], stage.config["optimise"]
        settings = {"path": path["kind"], **{k: v for k, v in path.items() if k in HEADLINE}, **optimise}
        settings |= {k: stage.config[k] for k in ("intervals", "distiller") if k in stage.config}
        self._log(run.info.run_id, curves(stage, result), [Param(k, str(v)) for k, v in settings.items()])
        self.client.set_terminated(run.info.run_id, "FINISHED", end)
        self.published[stage.key] = str(run.info.run_id)

    def _publish_trial(self, trial: Trial, status: str, error: str) -> str:
        from mlflow.entities import Metric, Param

        store, measured = self.records.store, self.records.measured(trial)
        start = end = int(time.time() * 1000)
        made_by = {}
        if store.done(trial.key):
            manifest = store.result(trial.key).manifest
            (start, end), made_by = begin_and_end(manifest), made_by_tags(manifest.get("made_by", {}))
        tags = {"kind": "trial", "sweep_id": self.records.plan.id, PARENT: self.parent}
        tags |= {"trial": str(trial.index), "trial_key": trial.key}
        tags |= {"fid_features": str(measured["fid_features"])} if measured else {}
        tags |= {"error": error[:5000]} if error else {}
        run = self.client.create_run(self.experiment, start_time=start, tags=tags | made_by, run_name=trial.title)
        run_id = str(run.info.run_id)
        self.client.log_inputs(run_id, [dataset_input(trial.chain[-1], store, "evaluation")])
        metrics = [
            Metric(k, float(v), end, 0) for k, v in measured.items() if k != "samples" and isinstance(v, int | float)
        ]
        if status == STOPPED:
            metrics += scores(fids(store, trial), start, end)
        self._log(run_id, metrics, [Param(k, str(v)) for k, v in parameters(trial, measured).items()])
        self.client.log_text(run_id, trial.config.to_yaml(), "config.yaml")
        for picture in ("samples.png", "nearest.png", "gap.png") if measured else ():
            if (result := store.result(trial.key)).has(picture):
                self.client.log_artifact(run_id, str(result.path(picture)))
        self.client.set_terminated(run_id, STATUSES[status], end)
        return run_id

    def _log(self, run_id: str, metrics: list[Any], params: list[Any]) -> None:
        self.client.log_batch(run_id, params=params[:100])
        for i in range(0, len(metrics), 1000):  # MLflow's limit for one call, and calls are what costs
            self.client.log_batch(run_id, metrics=metrics[i : i + 1000])


def parameters(trial: Trial, measured: dict[str, Any]) -> dict[str, Any]:
    """The parameters of a trial's run: the headline settings, and whatever else is swept under its dotted key."""
    values = {name: trial.config.value(key) for name, key in HEADLINE.items()}
    values["intervals"] = intervals_text(trial.config)
    if "nfe" in measured:
        values["nfe"] = measured["nfe"]
    values |= {k: v for k, v in trial.overrides.items() if k not in HEADLINE.values()}
    return values | {"model": trial.config.sampling.model, "steps": trial.config.sampling.steps}


def ui_command(records: Records) -> str:
    """The exact command that opens the MLflow UI on this sweep."""
    uri = records.plan.experiment.tracking.uri
    if uri and uri.startswith("http"):
        return f"open {uri}"
    store = uri or f"sqlite:///{short(records.store.root / 'mlflow.db')}"
    return f"mlflow ui --backend-store-uri {store}"


def best_filter(records: Records) -> str:
    """What to type into the search field of the experiment's page to see this sweep's trials, of more than COMPARED the
    best alone."""
    from orchestrator.ranking import metric_of, ranking

    metric, small_is_good = metric_of(records)
    query = f"tags.kind = 'trial' and tags.sweep_id = '{records.plan.id}'"
    values = [value for _, value in ranking(records) if value is not None]
    if len(values) <= COMPARED:
        return query
    return f"{query} and metrics.{metric} {'<=' if small_is_good else '>='} {values[COMPARED - 1]!r}"


def short(place: Place) -> str:
    """`place` relative to where the user stands, if it lies below."""
    below = isinstance(place, Path) and place.is_relative_to(Path.cwd())
    return os.path.relpath(str(place)) if below else str(place)
