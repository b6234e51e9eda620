"""MLflow as a view of the store: `publish` makes what is missing there, once, and can be called at any time.

The driver is the only process that writes. A run is recognised by tags (`sweep_id`, `stage_key`, `trial_key`), so
publishing again, after a crash or with an empty database, gives the same runs and no double ones.
"""

import os
import time
from pathlib import Path
from typing import Any

from orchestrator.plan import TRAINING, Stage, Trial, intervals_text
from orchestrator.records import MEASURES, Records

PARENT = "mlflow.parentRunId"
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
    return records.plan.experiment.tracking.uri or f"sqlite:///{records.store.root / 'mlflow.db'}"


class Tracker:
    """Publishes one sweep. Construction connects, and migrates a new database (some seconds)."""

    def __init__(self, records: Records) -> None:
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        import logging

        from mlflow import MlflowClient

        for name in ("mlflow", "mlflow.store.db.utils", "alembic"):  # each sets its own level when imported
            logging.getLogger(name).setLevel(logging.CRITICAL)  # what fails is raised too

        self.records = records
        self.client = MlflowClient(tracking_uri=tracking_uri(records))
        self.experiment = self._experiment()
        self.parent = self._parent()
        self.published: dict[str, str] = self._already()

    def publish(self) -> None:
        """Log every finished stage and every ended trial that MLflow does not have yet."""
        for stage in self.records.plan.stages(TRAINING):
            if stage.key not in self.published and self.records.store.done(stage.key):
                self._publish_stage(stage)
        for trial, ending in zip(self.records.plan.trials, self.records.endings, strict=True):
            name = f"trial:{trial.index}"
            if ending.status in ("done", "failed") and name not in self.published:
                self.published[name] = self._publish_trial(trial, ending.status, ending.error)
            ending.mlflow_run_id = self.published.get(name, "")

    def close(self, status: str) -> None:
        """Attach the sweep's report and table and end its run with `status` (FINISHED, FAILED or KILLED)."""
        folder = self.records.folder
        for file in (folder / "report.html", folder / "results.csv", folder / "figures" / "fid_vs_nfe.png"):
            if file.exists():
                self.client.log_artifact(self.parent, str(file))
        self.client.log_artifact(self.parent, str(folder / "config.yaml"))
        self.client.set_terminated(self.parent, status)

    def _experiment(self) -> str:
        name = self.records.plan.experiment.name
        found = self.client.get_experiment_by_name(name)
        if found is not None:
            if found.lifecycle_stage == "deleted":
                self.client.restore_experiment(found.experiment_id)
            return str(found.experiment_id)
        embedded = self.records.plan.experiment.tracking.uri is None
        location = (self.records.store.root / "mlartifacts" / name).as_uri() if embedded else None
        return str(self.client.create_experiment(name, artifact_location=location))

    def _parent(self) -> str:
        plan = self.records.plan
        found = self.client.search_runs([self.experiment], f"tags.kind = 'sweep' and tags.sweep_id = '{plan.id}'")
        if found:
            self.client.update_run(found[0].info.run_id, status="RUNNING")
            return str(found[0].info.run_id)
        tags = {"kind": "sweep", "sweep_id": plan.id}
        run = self.client.create_run(self.experiment, tags=tags, run_name=f"sweep {plan.id}")
        return str(run.info.run_id)

    def _already(self) -> dict[str, str]:
        """What MLflow has: stages of this experiment by key, this sweep's trials whose ending is still so."""
        found: dict[str, str] = {}
        for run in self._all_runs("tags.stage_key LIKE '%'"):
            tags = run.data.tags
            if run.info.status != "RUNNING":
                found[tags["stage_key"]] = run.info.run_id
            elif tags[PARENT] == self.parent:  # a process was killed, or a server lost, while this was published
                self.client.delete_run(run.info.run_id)
        statuses = {"done": "FINISHED", "failed": "FAILED"}
        for run in self._all_runs(f"tags.kind = 'trial' and tags.`{PARENT}` = '{self.parent}'"):
            index = int(run.data.tags["trial"])
            if statuses.get(self.records.endings[index].status) == run.info.status:
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
        from mlflow.entities import Metric, Param

        result = self.records.store.result(stage.key)
        end = int(result.manifest["finished"] * 1000)
        start = end - int(result.manifest["seconds"] * 1000)
        tags = {"kind": stage.kind, "stage_key": stage.key, PARENT: self.parent}
        run = self.client.create_run(self.experiment, start_time=start, tags=tags, run_name=stage.label)
        points = result.json("losses.json")
        at = [start + round((end - start) * p["step"] / stage.steps) for p in points]
        metrics = [Metric(k, p[k], t, int(p["step"])) for p, t in zip(points, at, strict=True) for k in ("loss", "lr")]
        path, optimise = stage.lineage()[0].config["path"], stage.config["optimise"]
        settings = {"path": path["kind"], **{k: v for k, v in path.items() if k in HEADLINE}, **optimise}
        settings |= {k: stage.config[k] for k in ("intervals", "distiller") if k in stage.config}
        self._log(run.info.run_id, metrics, [Param(k, str(v)) for k, v in settings.items()])
        self.client.set_terminated(run.info.run_id, "FINISHED", end)
        self.published[stage.key] = str(run.info.run_id)

    def _publish_trial(self, trial: Trial, status: str, error: str) -> str:
        from mlflow.entities import Metric, Param

        store, measured = self.records.store, self.records.measured(trial)
        end, seconds = time.time(), 0.0
        if store.done(trial.key):
            manifest = store.result(trial.key).manifest
            end, seconds = manifest["finished"], manifest["seconds"]
        stamp = int(end * 1000)
        tags = {"kind": "trial", PARENT: self.parent, "trial": str(trial.index), "trial_key": trial.key}
        tags |= {"fid_features": str(measured["fid_features"])} if measured else {}
        tags |= {"error": error[:5000]} if error else {}
        run = self.client.create_run(
            self.experiment, start_time=stamp - int(seconds * 1000), tags=tags, run_name=trial.title
        )
        run_id = str(run.info.run_id)
        metrics = [
            Metric(k, float(v), stamp, 0)
            for k, v in measured.items()
            if (k in MEASURES or k.endswith("_std")) and isinstance(v, int | float)
        ]
        self._log(run_id, metrics, [Param(k, str(v)) for k, v in parameters(trial, measured).items()])
        self.client.log_text(run_id, trial.config.to_yaml(), "config.yaml")
        if measured:
            self.client.log_artifact(run_id, str(store.result(trial.key).path("samples.png")))
        self.client.set_terminated(run_id, "FINISHED" if status == "done" else "FAILED", stamp)
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


def short(path: Path) -> str:
    """`path` relative to where the user stands, if it lies below."""
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)
