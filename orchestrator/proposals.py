"""Which trial Ray Tune begins next: those planned, or, where the plan grows, points drawn in the light of those that
have ended; none where a budget is used up."""

import hashlib
import pickle
import time
from collections.abc import Iterable, Iterator
from typing import Any

from ray.tune.search import Searcher

from orchestrator.graph import TRAINING
from orchestrator.places import Place
from orchestrator.plan import Trial
from orchestrator.records import Records
from orchestrator.stages import Run


class Budget:
    """What a sweep may use of wall time and of computing, counted from the first question on."""

    def __init__(self, records: Records) -> None:
        self._records, self._began = records, time.monotonic()
        self._counted = {s.key for s in records.plan.stages() if records.store.done(s.key)}
        self._core_seconds = 0.0

    def count(self, trial: Trial) -> None:
        """Add the computing of those stages of an ended trial that are done and were not counted before."""
        cluster = self._records.plan.experiment.cluster
        trainer = cluster.workers * (cluster.gpus_per_worker or cluster.cpus_per_worker)
        for stage in trial.stages():
            if stage.key not in self._counted and self._records.store.done(stage.key):
                self._counted.add(stage.key)
                seconds = self._records.store.result(stage.key).manifest["seconds"]
                self._core_seconds += seconds * (trainer if stage.kind in TRAINING else 1.0)

    def used_up(self) -> str:
        """Which budget is used up, in words; empty where none is."""
        sweep = self._records.plan.experiment.sweep
        if sweep is None:
            return ""
        if sweep.max_minutes is not None and time.monotonic() - self._began > 60 * sweep.max_minutes:
            return f"sweep.max_minutes: {sweep.max_minutes:g} minutes are over"
        if sweep.max_core_hours is not None and self._core_seconds > 3600 * sweep.max_core_hours:
            return f"sweep.max_core_hours: {sweep.max_core_hours:g} core hours are used up"
        return ""


class Proposals(Searcher):
    """Hands `todo` and then, where the plan grows, drawn trials to Ray Tune, each as its number and a file in the run's
    folder that its coordinator reads."""

    def __init__(self, records: Records, run: Run, todo: Iterable[Trial], leaders: set[int], budget: Budget) -> None:
        super().__init__()
        self._records, self._run, self._leaders, self._budget = records, run, leaders, budget
        self._next = self._all(list(todo))

    def __getstate__(self) -> dict[str, Any]:
        return {}  # Tune pickles its searcher for a restore, which this project does without

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """The next trial for Ray Tune."""
        reason = self._budget.used_up()
        trial = None if reason else next(self._next, None)
        if trial is None:
            return Searcher.FINISHED
        digest = write_trial(self._run, trial, trial.index in self._leaders)
        return {"trial": trial.index, "sha256": digest}

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Nothing to learn here: what a trial was worth is read from the store."""

    def save(self, checkpoint_path: str) -> None:
        """Nothing to save: a rerun of the same command finds its state in the store."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing to restore."""

    def _all(self, todo: list[Trial]) -> Iterator[Trial]:
        yield from todo
        sweep = self._records.plan.experiment.sweep
        while self._records.plan.grows and sweep is not None and sweep.num_trials is not None:
            if len(self._records.plan.expansion.points) >= sweep.num_trials:
                return
            fresh = self._records.draw()
            if not fresh:
                return
            self._leaders.update(t.index for t in fresh)
            yield from (t for t in fresh if self._records.endings[t.index].status != "done")


def write_trial(run: Run, trial: Trial, leader: bool) -> str:
    """Leave `trial` for its coordinator, in a file that lives as long as the run; returns the file's sha256."""
    content, file = pickle.dumps((trial, leader)), _trial_file(run, trial.index)
    file.parent.mkdir(exist_ok=True)
    file.put(content)
    return hashlib.sha256(content).hexdigest()


def read_trial(run: Run, index: int, sha256: str) -> tuple[Trial, bool]:
    """What `write_trial` left: written by this very run, as the checksum says that came another way, and so safe to
    unpickle."""
    content = _trial_file(run, index).read_bytes()
    if hashlib.sha256(content).hexdigest() != sha256:
        raise OSError(f"{_trial_file(run, index)} is not what this run has written")
    trial, leader = pickle.loads(content)
    return trial, leader


def _trial_file(run: Run, index: int) -> Place:
    return run.place / "trials" / f"{index}.pickle"
