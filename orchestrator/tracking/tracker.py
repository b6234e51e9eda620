"""MLflow as a view of the store: `publish` logs what MLflow does not have yet, and can be called at
any time.

The driver is the only process that writes. A run is identified by tags (`sweep_id`, `stage_key`,
`trial_key`), so publishing again, after a crash or with an empty database, gives the same runs and
no duplicates."""

import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

from orchestrator.plan.plan import Plan, Trial
from orchestrator.plan.stage import TRAINING, Stage
from orchestrator.store import layout
from orchestrator.store.stage_result import DamagedError, Result
from orchestrator.sweeps.ranking import is_drawn, progress
from orchestrator.sweeps.records import Records
from orchestrator.sweeps.status import Status
from orchestrator.sweeps.training_fids import STUDENTS_FID, fids, looks
from orchestrator.sweeps.verdict import verdicts
from orchestrator.tracking import parameters, registry, uri
from orchestrator.tracking.client import connect
from orchestrator.tracking.entities import (
    AGGREGATE,
    MADE_BY,
    begin_and_end_ms,
    comparability_tags,
    curve_metrics,
    dataset_input,
    fid_metrics,
    made_by_tags,
)
from orchestrator.tracking.links import NOTE, STUDENT, TEACHER, source_tags, trial_tags
from orchestrator.tracking.means import MeanRuns
from orchestrator.tracking.names import trial_names
from orchestrator.tracking.runs import METRICS, RUN_NAME, TAG, NewRun, add_params, truncated
from orchestrator.tracking.views import views

PARENT = "mlflow.parentRunId"
WHILE_TRAINING = "samples_while_training"  # the folder of images of a teacher's run
STATUSES = {
    Status.DONE: "FINISHED",
    Status.FAILED: "FAILED",
    Status.STOPPED: "KILLED",
    Status.CANCELLED: "KILLED",
}  # of trials that have ended


# settings that a sweep has now, and that its parameters, which cannot change, have otherwise
LATER = "later_settings"


class Shown(NamedTuple):
    """The name of a run and those of its tags that may change after it was logged."""

    name: str
    tags: dict[str, str]


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
        self._artifacts = uri.artifacts(records.plan.experiment.tracking.uri, records.store.root)
        file = uri.sqlite_file(tracking_uri(records))
        if file is not None:
            from orchestrator.tracking.database import relocate_artifacts

            for line in relocate_artifacts(file, self._artifacts):
                say(line)
        self.experiment = self._experiment()
        self.source = source_tags(records)
        self.parent = self._parent()
        self.means = MeanRuns(self.client, records, self.experiment)
        # by the keys of `published`, of this sweep's own runs: what MLflow shows
        self._shown: dict[str, Shown] = {}
        # the parameters of the runs that were there before
        self._logged_params: dict[str, dict[str, str]] = {}
        self.published: dict[str, str] = self._find_published()

    def publish(self) -> None:
        """Log every finished stage and every ended trial that MLflow does not have yet."""
        plan, endings = self.records.state  # it may grow meanwhile
        for stage in plan.stages(TRAINING):
            if stage.key not in self.published and self.records.store.done(stage.key):
                try:
                    self._publish_stage(stage)
                except DamagedError as e:  # the next run computes it again, and publishes it
                    self.records.damaged |= e.problems
        names = trial_names(plan)
        for trial, ending in zip(plan.trials, endings, strict=True):
            name = f"trial:{trial.index}"
            self.records.measured(trial)
            if (
                ending.status in STATUSES
                and name not in self.published
                and trial.key not in self.records.damaged
            ):
                shown = self._trial_shown(trial, names)
                run_id = self._publish_trial(trial, shown, ending.status, ending.error)
                self.published[name], self._shown[name] = run_id, shown
            if (run_id := self.published.get(name, "")) != ending.mlflow_run_id:
                self.records.update(trial.index, mlflow_run_id=run_id)
        self._refresh(plan, names)
        if plan.goal == "sweep":
            made_by = made_by_tags(self.records.made_by())
            self.means.publish({PARENT: self.parent, **made_by, **self.source})

    def close(self, status: str) -> None:
        """Attach the sweep's report, verdict and table, end its run with `status` (FINISHED, FAILED
        or KILLED), and, unless it was killed, register its best network."""
        folder = self.records.folder
        self._log_verdict()
        self._log_progress()
        if self.records.plan.goal == "sweep":
            for view in views(self.records):
                self.client.set_experiment_tag(self.experiment, view.tag, view.state())
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

    def _log_progress(self) -> None:
        """The best metric up to each trial of a search, by the number of the trial, up to the first
        trial that is not over: a logged metric stays, and what that trial finds may be better."""
        from mlflow.entities import Metric

        found = progress(self.records)
        if not is_drawn(self.records) or not found:
            return
        over, plan, store = 0, self.records.plan, self.records.store
        while over < len(plan.trials) and self.records.endings[over].status in STATUSES:
            over += 1
        steps = next(iter(found.values()))  # values on other scales do not compare
        metrics = [
            Metric(
                "best_so_far",
                step.best,
                begin_and_end_ms(store.result(plan.trials[step.trial].key).manifest)[1],
                step.trial,
            )
            for step in steps
            if step.trial < over and store.done(plan.trials[step.trial].key)
        ]
        for i in range(0, len(metrics), METRICS):
            self.client.log_batch(self.parent, metrics=metrics[i : i + METRICS])

    def _experiment(self) -> str:
        name = self.records.plan.experiment.name
        experiment = self.client.get_experiment_by_name(name)
        if experiment is not None:
            if experiment.lifecycle_stage == "deleted":
                self.client.restore_experiment(experiment.experiment_id)
            return str(experiment.experiment_id)
        location = None
        if self._artifacts is not None:  # MLflow's default is in this process's working folder
            from orchestrator.tracking.database import artifacts_of

            location = artifacts_of(self._artifacts, name)
        return str(self.client.create_experiment(name, artifact_location=location))

    def _parent(self) -> str:
        plan, made_by = self.records.plan, made_by_tags(self.records.made_by())
        runs = self.client.search_runs(
            [self.experiment], f"tags.kind = 'sweep' and tags.sweep_id = '{plan.id}'"
        )
        if runs:
            run_id = str(runs[0].info.run_id)
            self.client.update_run(run_id, status="RUNNING")
            logged = runs[0].data
            other = add_params(self.client, run_id, parameters.of_sweep(plan), logged.params)
            later = {LATER: ", ".join(f"{k} {v}" for k, v in other.items())} if other else {}
            self._update_tags(run_id, logged.tags, made_by | self.source | later)
            return run_id
        tags = {"kind": "sweep", "sweep_id": plan.id, **made_by, **self.source}
        run = NewRun(self.client, self.experiment, f"sweep {plan.id}", tags)
        run.params(parameters.of_sweep(plan))
        return run.id

    def _update_tags(self, run_id: str, logged: dict[str, str], made_by: dict[str, str]) -> None:
        """Set the versions and the source of a resumed sweep to those of its last run."""
        for name in logged.keys() & (MADE_BY | {LATER}) - made_by.keys():
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
                if tags.get(PARENT) == self.parent:
                    self._note(tags["stage_key"], run)
            elif tags[PARENT] == self.parent:  # publishing it was interrupted
                self.client.delete_run(run.info.run_id)
        for run in self._all_runs(f"tags.kind = 'trial' and tags.`{PARENT}` = '{self.parent}'"):
            index = int(run.data.tags["trial"])
            if STATUSES.get(self.records.endings[index].status) == run.info.status:
                run_ids[f"trial:{index}"] = run.info.run_id
                self._note(f"trial:{index}", run)
            else:  # it was interrupted or failed then, and has run again since or will
                self.client.delete_run(run.info.run_id)
        query = f"tags.kind = '{AGGREGATE}' and tags.`{PARENT}` = '{self.parent}'"
        for run in self._all_runs(query):
            self.means.found(run)
        return run_ids

    def _note(self, name: str, run: Any) -> None:
        """Take notice of what MLflow shows of a run."""
        self._shown[name] = Shown(run.info.run_name, dict(run.data.tags))
        self._logged_params[name] = dict(run.data.params)

    def _trial_shown(self, trial: Trial, names: dict[int, str]) -> Shown:
        links = trial_tags(self.records.plan, trial, self.experiment, self.parent, self.published)
        return Shown(names[trial.index], links | self.source)

    def _refresh(self, plan: Plan, names: dict[int, str]) -> None:
        """Update the runs whose names or links have changed: trials were added to the sweep, stages
        were published after them, or an earlier version logged them."""
        wanted: dict[str, Shown] = {}
        for stage in plan.stages(TRAINING):
            wanted[stage.key] = Shown(plan.names[stage.key], self.source)
        for trial in plan.trials:
            wanted[f"trial:{trial.index}"] = self._trial_shown(trial, names)
        for name in wanted.keys() & self._shown.keys() & self.published.keys():
            self._update(self.published[name], self._shown[name], wanted[name])
            self._shown[name] = wanted[name]
        self._complete_params()

    def _update(self, run_id: str, shown: Shown, wanted: Shown) -> None:
        if shown.name != (name := truncated(wanted.name, RUN_NAME)) and shown.name != wanted.name:
            self.client.update_run(run_id, name=name)
        for tag, value in wanted.tags.items():
            if shown.tags.get(tag) not in (value, text := truncated(value, TAG)):
                self.client.set_tag(run_id, tag, text)
        for tag in (TEACHER, STUDENT):
            if tag in shown.tags and tag not in wanted.tags:
                self.client.delete_tag(run_id, tag)

    def _complete_params(self) -> None:
        """Log the parameters that runs of an earlier version lack."""
        plan, logged = self.records.plan, self._logged_params
        users = {stage.key: (stage, trial) for trial in plan.trials for stage in trial.chain}
        for name, params in logged.items():
            if name in users:
                wanted = parameters.of_training(*users[name])
            else:
                wanted = parameters.of_trial(plan.trials[int(name.removeprefix("trial:"))])
            add_params(self.client, self.published[name], wanted, params)
        self._logged_params = {}

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
        shown = Shown(self.records.plan.names[stage.key], self.source)
        run = NewRun(self.client, self.experiment, shown.name, tags | shown.tags, start)
        trial = next(t for t in self.records.plan.trials if stage in t.chain)
        self.client.log_inputs(run.id, [dataset_input(trial.facts.data, "training")])
        run.params(parameters.of_training(stage, trial))
        run.metrics(curve_metrics(stage, result))
        self._log_looks(run.id, result)
        run.end("FINISHED", end)
        self.published[stage.key], self._shown[stage.key] = run.id, shown

    def _log_looks(self, run_id: str, result: Result) -> None:
        """The samples of a network during its training, as images of its run."""
        names = looks(result)
        if not names:
            return
        with TemporaryDirectory() as folder:
            for name in names:
                step = layout.step_of_look(name)
                (Path(folder) / f"step-{step}.png").write_bytes(result.content(name))
            self.client.log_artifacts(run_id, folder, WHILE_TRAINING)

    def _publish_trial(self, trial: Trial, shown: Shown, status: Status, error: str) -> str:
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
        tags |= made_by | shown.tags
        run = NewRun(self.client, self.experiment, shown.name, tags, start)
        self.client.log_inputs(run.id, [dataset_input(trial.facts.data, "evaluation")])
        metrics = [
            Metric(k, float(v), end, 0)
            for k, v in measured.items()
            if k != "samples" and isinstance(v, int | float)
        ]
        if status in (Status.STOPPED, Status.CANCELLED):
            metrics += fid_metrics(fids(store, trial.chain[0].key), start, end)
            if trial.config.sampling.model == "student":
                of_student = fids(store, trial.chain[-1].key)
                metrics += fid_metrics(of_student, start, end, name=STUDENTS_FID)
        run.params(parameters.of_trial(trial))
        run.metrics(metrics)
        self.client.log_text(run.id, trial.config.to_yaml(), layout.CONFIG)
        for picture in (layout.SAMPLES, "nearest.png", "gap.png") if measured else ():
            if (result := store.result(trial.key)).has(picture):
                self.client.log_artifact(run.id, str(result.path(picture)))
        run.end(STATUSES[status], end)
        return run.id
