"""MLflow as a view of the store: `publish` logs what MLflow does not have yet, and can be called at
any time.

The driver is the only process that writes. A run is identified by tags (`sweep_id`, `stage_key`,
`trial_key`), so publishing again, after a crash or with an empty database, gives the same runs and
no duplicates."""

import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from orchestrator.plan import cost
from orchestrator.plan.plan import Trial
from orchestrator.plan.stage import TRAINING, Stage
from orchestrator.store import layout
from orchestrator.store.stage_result import DamagedError, Result
from orchestrator.sweeps.records import Records
from orchestrator.sweeps.status import Status
from orchestrator.sweeps.teacher_fids import fids, looks
from orchestrator.sweeps.verdict import verdicts
from orchestrator.tracking import registry, uri
from orchestrator.tracking.client import connect
from orchestrator.tracking.entities import (
    MADE_BY,
    begin_and_end_ms,
    curve_metrics,
    dataset_input,
    fid_metrics,
    made_by_tags,
)
from orchestrator.tracking.runs import TAG, NewRun, truncated

PARENT = "mlflow.parentRunId"
NOTE = "mlflow.note.content"  # the description of a run
WHILE_TRAINING = "samples_while_training"  # the folder of images of a teacher's run
STATUSES = {
    Status.DONE: "FINISHED",
    Status.FAILED: "FAILED",
    Status.STOPPED: "KILLED",
    Status.CANCELLED: "KILLED",
}  # of trials that have ended
HEADLINE = {  # the settings that every trial logs, besides the swept ones; config.yaml has the rest
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
    """The tracking store: `tracking.uri`, or the embedded SQLite file of `storage`."""
    return uri.tracking_uri(records.plan.experiment.tracking.uri, records.store.root)


class Tracker:
    """Publishes one sweep. The constructor connects. It creates an embedded database, which takes
    some seconds, or upgrades it, and updates its artifact addresses if the store was moved; `say`
    gets a line for each such change. Raises ConfigError if that fails."""

    def __init__(self, records: Records, say: Callable[[str], None] = print) -> None:
        self.records = records
        self.client = connect(tracking_uri(records), say)
        self._file = uri.sqlite_file(tracking_uri(records))
        if self._file is not None:
            from orchestrator.tracking.database import relocate_artifacts

            for line in relocate_artifacts(self._file):
                say(line)
        self.experiment = self._experiment()
        self.parent = self._parent()
        self.published: dict[str, str] = self._find_published()

    def publish(self) -> None:
        """Log every finished stage and every ended trial that MLflow does not have yet."""
        for stage in self.records.plan.stages(TRAINING):
            if stage.key not in self.published and self.records.store.done(stage.key):
                try:
                    self._publish_stage(stage)
                except DamagedError as e:  # the next run computes it again, and publishes it
                    self.records.damaged |= e.problems
        for trial, ending in self.records.entries():
            name = f"trial:{trial.index}"
            self.records.measured(trial)
            if (
                ending.status in STATUSES
                and name not in self.published
                and trial.key not in self.records.damaged
            ):
                self.published[name] = self._publish_trial(trial, ending.status, ending.error)
            if (run_id := self.published.get(name, "")) != ending.mlflow_run_id:
                self.records.update(trial.index, mlflow_run_id=run_id)

    def close(self, status: str) -> None:
        """Attach the sweep's report, verdict and table, end its run with `status` (FINISHED, FAILED
        or KILLED), and, unless it was killed, register its best network."""
        folder = self.records.folder
        self._log_verdict()
        for file in (
            folder / layout.REPORT,
            folder / layout.RESULTS,
            folder / layout.VERDICT,
            *(folder / layout.FIGURES).find("*.png"),
        ):
            if file.exists():
                self.client.log_artifact(self.parent, str(file.local()))
        self.client.log_artifact(self.parent, str((folder / layout.CONFIG).local()))
        self.client.set_terminated(self.parent, status)
        if status != "KILLED":
            registry.register(self.client, self.records, self.client.get_run(self.parent))

    def _log_verdict(self) -> None:
        """The verdict as the description of the sweep's run, and the best value of each number of
        steps as its metrics, such as best_fid_4_steps."""
        from mlflow.entities import Metric

        found = verdicts(self.records)
        if not found:
            return
        lines = [line for verdict in found for line in verdict.lines()]
        note = "\n".join(f"    {line}" for line in lines)  # Markdown: as it is
        self.client.set_tag(self.parent, NOTE, truncated(note, TAG))
        store = self.records.store
        done = [t.key for t in self.records.plan.trials if store.done(t.key)]
        # of the last result, so that publishing again logs the same
        last = max(begin_and_end_ms(store.result(key).manifest)[1] for key in done)
        first = found[0]  # values on other scales do not compare
        metrics = [
            Metric(f"best_{first.metric}_{a.question.replace(' ', '_')}", a.value.value, last, 0)
            for a in first.answers
        ]
        self.client.log_batch(self.parent, metrics=metrics)

    def _experiment(self) -> str:
        name = self.records.plan.experiment.name
        experiment = self.client.get_experiment_by_name(name)
        if experiment is not None:
            if experiment.lifecycle_stage == "deleted":
                self.client.restore_experiment(experiment.experiment_id)
            return str(experiment.experiment_id)
        location = None
        if self._file is not None:  # MLflow's default is in this process's working folder
            from orchestrator.tracking.database import artifacts_of

            location = artifacts_of(self._file, name)
        return str(self.client.create_experiment(name, artifact_location=location))

    def _parent(self) -> str:
        plan, made_by = self.records.plan, made_by_tags(self.records.made_by())
        runs = self.client.search_runs(
            [self.experiment], f"tags.kind = 'sweep' and tags.sweep_id = '{plan.id}'"
        )
        if runs:
            run_id = str(runs[0].info.run_id)
            self.client.update_run(run_id, status="RUNNING")
            self._update_tags(run_id, runs[0].data.tags, made_by)
            return run_id
        tags = {"kind": "sweep", "sweep_id": plan.id, **made_by}
        return NewRun(self.client, self.experiment, f"sweep {plan.id}", tags).id

    def _update_tags(self, run_id: str, logged: dict[str, str], made_by: dict[str, str]) -> None:
        """Set the versions of a resumed sweep to those of its last run."""
        for name in logged.keys() & MADE_BY - made_by.keys():
            self.client.delete_tag(run_id, name)
        for name, value in made_by.items():
            if logged.get(name) != value:
                self.client.set_tag(run_id, name, value)

    def _find_published(self) -> dict[str, str]:
        """The run ids that MLflow has: of this experiment's stages by key, and of this sweep's
        trials whose logged status is still right. Other runs of this sweep are deleted."""
        run_ids: dict[str, str] = {}
        for run in self._all_runs("tags.stage_key LIKE '%'"):
            tags = run.data.tags
            if run.info.status != "RUNNING":
                run_ids[tags["stage_key"]] = run.info.run_id
            elif tags[PARENT] == self.parent:  # publishing it was interrupted
                self.client.delete_run(run.info.run_id)
        for run in self._all_runs(f"tags.kind = 'trial' and tags.`{PARENT}` = '{self.parent}'"):
            index = int(run.data.tags["trial"])
            if STATUSES.get(self.records.endings[index].status) == run.info.status:
                run_ids[f"trial:{index}"] = run.info.run_id
            else:  # it was interrupted or failed then, and has run again since or will
                self.client.delete_run(run.info.run_id)
        return run_ids

    def _all_runs(self, query: str) -> list[Any]:
        runs, token = [], None
        while True:
            page = self.client.search_runs(
                [self.experiment], query, max_results=1000, page_token=token
            )
            runs += page
            token = page.token
            if not token:
                return runs

    def _publish_stage(self, stage: Stage) -> None:
        result = self.records.store.result(stage.key)
        start, end = begin_and_end_ms(result.manifest)
        tags = {"kind": stage.kind, "stage_key": stage.key, PARENT: self.parent}
        tags |= made_by_tags(result.manifest.get("made_by", {}))
        run = NewRun(self.client, self.experiment, self.records.plan.names[stage.key], tags, start)
        data = next(
            t.facts.data
            for t in self.records.plan.trials
            if stage.key in (s.key for s in t.stages())
        )
        self.client.log_inputs(run.id, [dataset_input(data, "training")])
        path = stage.teacher_spec.path.content()
        optimise = stage.content["optimise"]
        settings = {
            "path": path["kind"],
            **{k: v for k, v in path.items() if k in HEADLINE},
            **optimise,
        }
        run.params(
            settings
            | {k: stage.content[k] for k in ("intervals", "distiller") if k in stage.content}
        )
        run.metrics(curve_metrics(stage, result))
        self._log_looks(run.id, result)
        run.end("FINISHED", end)
        self.published[stage.key] = run.id

    def _log_looks(self, run_id: str, result: Result) -> None:
        """The samples of a teacher during its training, as images of its run."""
        names = looks(result)
        if not names:
            return
        with TemporaryDirectory() as folder:
            for name in names:
                step = layout.step_of_look(name)
                (Path(folder) / f"step-{step}.png").write_bytes(result.content(name))
            self.client.log_artifacts(run_id, folder, WHILE_TRAINING)

    def _publish_trial(self, trial: Trial, status: Status, error: str) -> str:
        from mlflow.entities import Metric

        store, measured = self.records.store, self.records.measured(trial)
        start = end = int(time.time() * 1000)
        made_by = {}
        if store.done(trial.key):
            manifest = store.result(trial.key).manifest
            start, end = begin_and_end_ms(manifest)
            made_by = made_by_tags(manifest.get("made_by", {}))
        tags = {"kind": "trial", "sweep_id": self.records.plan.id, PARENT: self.parent}
        tags |= {
            "trial": str(trial.index),
            "trial_key": trial.key,
            **comparability_tags(self.records, trial),
        }
        if trial.facts.data.size is not None:
            tags["data.size"] = str(trial.facts.data.size)
        if error:
            tags["error"] = error
        run = NewRun(self.client, self.experiment, trial.title, tags | made_by, start)
        self.client.log_inputs(run.id, [dataset_input(trial.facts.data, "evaluation")])
        metrics = [
            Metric(k, float(v), end, 0)
            for k, v in measured.items()
            if k != "samples" and isinstance(v, int | float)
        ]
        if status in (Status.STOPPED, Status.CANCELLED):
            metrics += fid_metrics(fids(store, trial.chain[0].key), start, end)
        run.params(run_parameters(trial, measured))
        run.metrics(metrics)
        self.client.log_text(run.id, trial.config.to_yaml(), layout.CONFIG)
        for picture in (layout.SAMPLES, "nearest.png", "gap.png") if measured else ():
            if (result := store.result(trial.key)).has(picture):
                self.client.log_artifact(run.id, str(result.path(picture)))
        run.end(STATUSES[status], end)
        return run.id


def comparability_tags(records: Records, trial: Trial) -> dict[str, str]:
    """The tags that are equal for trials whose numbers compare: `data`, the name of the data set
    and 8 digits of its fingerprint, and for a measured trial `fid_features`, and
    `fid_second_features` where it has them."""
    data, measured = trial.facts.data, records.measured(trial)
    tags = {"data": f"{data.name} {data.fingerprint[:8]}"}
    names = ("fid_features", "fid_second_features")
    return tags | {name: str(measured[name]) for name in names if name in measured}


def run_parameters(trial: Trial, measured: dict[str, Any]) -> dict[str, Any]:
    """The parameters of a trial's run: the headline settings, and the other swept settings under
    their dotted keys."""
    values = {name: trial.config.value(key) for name, key in HEADLINE.items()}
    values["intervals"] = trial.config.distill.chain_text()
    if "nfe" in measured:
        values["nfe"] = measured["nfe"]
    values["training_nfe"] = round(cost.with_parents(trial.chain[-1]))
    values |= {k: v for k, v in trial.overrides.items() if k not in HEADLINE.values()}
    return values | {"model": trial.config.sampling.model, "steps": trial.config.sampling.steps}
