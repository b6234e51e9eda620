"""Which trial Ray Tune begins next: those planned, or, where the plan grows, points drawn in the
light of those that have ended; none where a budget is used up."""

import hashlib
import pickle
import time
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

from ray.tune.search import Searcher

from orchestrator.execution.fulfil import Run
from orchestrator.plan.plan import Trial
from orchestrator.plan.stage import TRAINING
from orchestrator.store.place import Place
from orchestrator.sweeps.records import Records
from orchestrator.sweeps.status import Status

START_SECONDS = 3.0  # the least that starting a coordinator's process takes


class Budget:
    """What a sweep may use of wall time and of computing, counted from the first question on."""

    def __init__(self, records: Records) -> None:
        self._records, self._began = records, time.monotonic()
        self._before = {s.key for s in records.plan.stages() if records.store.done(s.key)}
        self._core_seconds: dict[str, float] = {}

    def count(self, trial: Trial) -> None:
        """Add the computing of an ended trial's stages: of those that are done, and of one that was
        stopped so far."""
        cluster, store = self._records.plan.experiment.cluster, self._records.store
        trainer = cluster.workers * (cluster.gpus_per_worker or cluster.cpus_per_worker)
        for stage in trial.stages():
            if stage.key not in self._before:
                seconds = store.seconds(stage.key)
                self._core_seconds[stage.key] = seconds * (
                    trainer if stage.kind in TRAINING else 1.0
                )

    def used_up(self) -> str:
        """Which budget is used up, in words; empty where none is."""
        sweep = self._records.plan.experiment.sweep
        if sweep is None:
            return ""
        if (
            sweep.max_minutes is not None
            and time.monotonic() - self._began > 60 * sweep.max_minutes
        ):
            return f"sweep.max_minutes: {sweep.max_minutes:g} minutes are over"
        if (
            sweep.max_core_hours is not None
            and sum(self._core_seconds.values()) > 3600 * sweep.max_core_hours
        ):
            return f"sweep.max_core_hours: {sweep.max_core_hours:g} core hours are used up"
        return ""


class Proposals(Searcher):
    """Hands `todo` and then, where the plan grows, drawn trials to Ray Tune, each as its number and
    a file in the run's folder that its coordinator reads.

    Tune begins a new process for each trial that it is handed while others work, and throws it away
    half started where one of those becomes free first. So after a trial that took less than such a
    start the next one waits for a free process, and no longer than a start: otherwise trials with
    nothing to do would fill the memory with processes."""

    def __init__(
        self, records: Records, run: Run, todo: Iterable[Trial], leaders: set[int], budget: Budget
    ) -> None:
        super().__init__()
        self._records = records
        self._run = run
        self._leaders = leaders
        self._budget = budget
        self._next = self._all(list(todo))
        self._open: set[str] = set()
        self._unhurried_until = 0.0

    def __getstate__(self) -> dict[str, Any]:
        return {}  # Tune pickles its searcher for a restore, which this project does without

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """The next trial for Ray Tune; None where it is to ask again later."""
        if self._open and time.monotonic() < self._unhurried_until:
            return None
        reason = self._budget.used_up()
        trial = None if reason else next(self._next, None)
        if trial is None:
            return Searcher.FINISHED
        digest = write_trial(self._run, trial, trial.index in self._leaders)
        self._open.add(trial_id)
        return {"trial": trial.index, "sha256": digest}

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """A trial has ended; what it was worth is read from the store."""
        self._open.discard(trial_id)
        if result is not None and result.get("time_total_s", START_SECONDS) < START_SECONDS:
            self._unhurried_until = time.monotonic() + START_SECONDS

    def save(self, checkpoint_path: str) -> None:
        """Nothing to save: a rerun of the same command finds its state in the store."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing to restore."""

    def _all(self, todo: list[Trial]) -> Iterator[Trial]:
        yield from (
            t for t in todo if self._records.endings[t.index].status == Status.WAITING
        )  # looked at one by one
        sweep = self._records.plan.experiment.sweep
        while self._records.plan.grows and sweep is not None and sweep.num_trials is not None:
            if self._records.lost or len(self._records.plan.expansion.points) >= sweep.num_trials:
                return
            fresh = self._records.draw()
            if not fresh:
                return
            self._leaders.update(t.index for t in fresh)
            yield from (t for t in fresh if self._records.endings[t.index].status == Status.WAITING)


def write_trial(run: Run, trial: Trial, leader: bool) -> str:
    """Leave `trial` for its coordinator, in a file that lives as long as the run; returns the
    file's sha256."""
    placed = replace(trial, config=trial.config.absolute())  # a coordinator runs in another folder
    content, file = pickle.dumps((placed, leader)), _trial_file(run, trial.index)
    file.parent.mkdir(exist_ok=True)
    file.put(content)
    return hashlib.sha256(content).hexdigest()


def read_trial(run: Run, index: int, sha256: str) -> tuple[Trial, bool]:
    """What `write_trial` left: written by this very run, as the checksum says that came another
    way, and so safe to unpickle."""
    content = _trial_file(run, index).read_bytes()
    if hashlib.sha256(content).hexdigest() != sha256:
        raise OSError(f"{_trial_file(run, index)} is not what this run has written")
    trial, leader = pickle.loads(content)
    return trial, leader


def _trial_file(run: Run, index: int) -> Place:
    return run.place / "trials" / f"{index}.pickle"
