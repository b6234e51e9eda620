"""The searcher of Ray Tune: which trial starts next. First the planned ones; then, where the plan
grows, new points that Optuna proposes from the finished ones; none once a budget is used up."""

import hashlib
import pickle
import time
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

from ray.tune.search import Searcher

from orchestrator.execution.stage_runner import Run
from orchestrator.execution.steering import Steering
from orchestrator.plan.plan import Trial
from orchestrator.plan.stage import CHAIN
from orchestrator.store.place import Place
from orchestrator.sweeps.records import Records
from orchestrator.sweeps.status import Status

START_SECONDS = 3.0  # the minimum time to start a coordinator's process


class Budget:
    """The wall time and the core hours that a sweep may use; the time counts from the creation of
    this object."""

    def __init__(self, records: Records) -> None:
        self._records, self._began = records, time.monotonic()
        self._finished_before = {s.key for s in records.plan.stages() if records.store.done(s.key)}
        self._core_seconds: dict[str, float] = {}

    def count(self, trial: Trial) -> None:
        """Add the core seconds of an ended trial's stages, finished or stopped, that were not
        finished before this run."""
        cluster, store = self._records.plan.experiment.cluster, self._records.store
        cores_per_worker = cluster.gpus_per_worker or cluster.cpus_per_worker
        for stage in trial.stages():
            if stage.key not in self._finished_before:
                cores = 1.0
                if stage.kind in CHAIN:
                    cores = cores_per_worker * store.workers(stage.key, cluster.max_workers)
                self._core_seconds[stage.key] = cores * store.seconds(stage.key)

    def used_up(self) -> str:
        """The budget that is used up, as a message; empty where none is."""
        sweep = self._records.plan.experiment.sweep
        if sweep is None:
            return ""
        minutes = (time.monotonic() - self._began) / 60
        if sweep.max_minutes is not None and minutes > sweep.max_minutes:
            return f"sweep.max_minutes: {sweep.max_minutes:g} minutes are used up"
        hours = sum(self._core_seconds.values()) / 3600
        if sweep.max_core_hours is not None and hours > sweep.max_core_hours:
            return f"sweep.max_core_hours: {sweep.max_core_hours:g} core hours are used up"
        return ""


class PlanSearcher(Searcher):
    """Passes `todo` and then, where the plan grows, new trials to Ray Tune. Tune gets the number of
    a trial; its coordinator reads the trial from a file in the run's folder.

    Tune starts a new process for each trial that it gets while others work, and discards it half
    started if one of those ends first. Trials with nothing to do would so fill the memory with
    processes. After a trial that took less than START_SECONDS the next one therefore waits for a
    free process, for at most START_SECONDS."""

    def __init__(
        self,
        records: Records,
        run: Run,
        todo: Iterable[Trial],
        leaders: set[int],
        budget: Budget,
        steering: Steering,
    ) -> None:
        super().__init__()
        self._records = records
        self._run = run
        self._leaders = leaders
        self._budget = budget
        self._steering = steering
        self._trials = self._waiting_trials(list(todo))
        self._open: set[str] = set()
        self._wait_until = 0.0

    def __getstate__(self) -> dict[str, Any]:
        return {}  # Tune pickles its searcher for Tuner.restore, which this project does not use

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """The next trial for Ray Tune; None where Tune is to ask again later."""
        self._steering.apply()  # Tune's loop stands still here while no trial runs
        if self._steering.paused:
            return None
        if self._open and time.monotonic() < self._wait_until:
            return None
        trial = None if self._budget.used_up() else self._next()
        if trial is None:
            return Searcher.FINISHED
        self._steering.given.add(trial.index)
        digest = write_trial(self._run, trial, trial.index in self._leaders)
        self._open.add(trial_id)
        return {"trial": trial.index, "sha256": digest}

    def _next(self) -> Trial | None:
        """The next trial to run: first those that were asked for."""
        while self._steering.first:
            trial = self._records.plan.trials[self._steering.first.pop(0)]
            if self._is_waiting(trial):
                self._leaders.add(trial.index)  # its training is not left to a later trial
                return trial
        return next(self._trials, None)

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """A trial has ended; its metric is read from the store, not from `result`."""
        self._open.discard(trial_id)
        if result is not None and result.get("time_total_s", START_SECONDS) < START_SECONDS:
            self._wait_until = time.monotonic() + START_SECONDS

    def save(self, checkpoint_path: str) -> None:
        """Nothing to save: a rerun of the same command finds its state in the store."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing to restore."""

    def _waiting_trials(self, todo: list[Trial]) -> Iterator[Trial]:
        """The trials to run; each status is read when Tune asks for the trial."""
        yield from (trial for trial in todo if self._is_waiting(trial))
        sweep = self._records.plan.experiment.sweep
        while self._records.plan.grows and sweep is not None and sweep.num_trials is not None:
            if (
                self._records.reference_failed
                or len(self._records.plan.expansion.points) >= sweep.num_trials
            ):
                return
            new_trials = self._records.grow()
            if not new_trials:
                return
            self._leaders.update(trial.index for trial in new_trials)
            yield from (trial for trial in new_trials if self._is_waiting(trial))

    def _is_waiting(self, trial: Trial) -> bool:
        if trial.index in self._steering.given:
            return False
        return self._records.endings[trial.index].status == Status.WAITING


def write_trial(run: Run, trial: Trial, leader: bool) -> str:
    """Write `trial` into the run's folder for its coordinator; returns the file's sha256."""
    # with absolute paths, since a coordinator runs in another folder
    trial = replace(trial, config=trial.config.absolute())
    content, file = pickle.dumps((trial, leader)), _trial_file(run, trial.index)
    file.parent.mkdir(exist_ok=True)
    file.put(content)
    return hashlib.sha256(content).hexdigest()


def read_trial(run: Run, index: int, sha256: str) -> tuple[Trial, bool]:
    """Read what `write_trial` wrote. The checksum came through Ray, not through the store: it
    proves that this run wrote the file, so that it is safe to unpickle."""
    content = _trial_file(run, index).read_bytes()
    if hashlib.sha256(content).hexdigest() != sha256:
        raise OSError(f"{_trial_file(run, index)} was not written by this run")
    trial, leader = pickle.loads(content)
    return trial, leader


def _trial_file(run: Run, index: int) -> Place:
    return run.folder / "trials" / f"{index}.pickle"
