"""Runs stages: finds finished ones, runs each missing one in one place only, and waits for others'
holding nothing.

A trial is a coordinator. What computes is started from here: one Ray Train worker group for all the
missing training stages of a chain, and Ray tasks for sampling and features."""

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kaccore.files import CorruptFileError
from orchestrator.host import machine
from orchestrator.plan.plan import Trial
from orchestrator.plan.stage import Stage
from orchestrator.settings.experiment import Experiment
from orchestrator.store import integrity, layout
from orchestrator.store.failures import cause, first_line, innermost
from orchestrator.store.folder import Folder
from orchestrator.store.leases import Halt, Lease, LeaseWatch, newest
from orchestrator.store.place import Place
from orchestrator.store.places import place_of
from orchestrator.store.store import Store, disk_refuses
from orchestrator.work.job import Job, Saving, watch_of, weights_of

POLL_SECONDS = 0.5
# a stage that fails for no fault of its settings (a lost worker or node, memory) is tried this
# often
TRIES = 3
LEADER_SECONDS = 30.0
# an evaluation is split into tasks of so many images: fewer would cost a cold process each
IMAGES_PER_PART = 2048


class StageFailedError(RuntimeError):
    """A stage cannot be completed; the message begins with the cause."""


class ReferenceFailedError(StageFailedError):
    """What a trial is measured by cannot be had, and so nothing of it was trained."""


class LostResultError(RuntimeError):
    """What a stage builds on, `stages`, is damaged or not there any more, and has to be made again
    first."""

    def __init__(self, stages: Sequence[Stage], why: str) -> None:
        self.stages = list(stages)
        super().__init__(f"{', '.join(stage.label for stage in stages)}: damaged or removed: {why}")


class HaltedError(RuntimeError):
    """The trial was to be stopped before it was complete."""


@dataclass(frozen=True)
class Run:
    """One invocation: what the coordinators of all its trials share. `id` differs between
    invocations."""

    id: str
    storage: str
    config: Experiment

    @property
    def place(self) -> Place:
        """What this invocation leaves in the store while it lasts."""
        return place_of(self.storage) / layout.RAY / self.id

    @property
    def ray_folder(self) -> Path:
        """Where Ray keeps its own files while this invocation runs. It needs a folder and shares
        nothing through it: checkpoints and results go through the store."""
        if isinstance(self.place, Folder):
            return self.place
        return machine.temporary_folder() / "ray" / self.id


def complete(trial: Trial, run: Run, leader: bool = True, halt: Halt | None = None) -> None:
    """Finish every stage of `trial`; raises StageFailedError with the cause where one cannot be,
    and HaltedError where `halt` has been asked before. What it is measured by comes first: without
    it nothing is worth training.

    A trial that is no `leader` leaves training to the one whose chain holds its own, so that a
    chain is trained in one worker group; only where nobody begins does it begin itself."""
    store, halt = Store(run.storage), halt or Halt()
    for attempt in range(1, TRIES + 1):
        try:
            _complete(trial, run, store, leader or attempt > 1, halt)
            return
        except LostResultError as e:
            for stage in e.stages:
                integrity.set_aside(store, stage)
            if attempt == TRIES:
                raise StageFailedError(f"given up after {TRIES} times: {e}") from e


def _complete(trial: Trial, run: Run, store: Store, leader: bool, halt: Halt) -> None:
    patience = 0.0 if leader else LEADER_SECONDS
    for stage in trial.measured_by():
        try:
            fulfil([stage], store, run.id, lambda stages: refer(stages[0], trial, run), halt=halt)
        except StageFailedError as e:
            raise ReferenceFailedError(str(e)) from e
    needs = trial.measured_by()  # a teacher is, while it trains
    fulfil(
        trial.chain, store, run.id, lambda stages: train(stages, trial, run), patience, halt, needs
    )
    if trial.evaluation is not None:
        fulfil(
            [trial.evaluation],
            store,
            run.id,
            lambda stages: evaluate(stages[0], trial, run),
            halt=halt,
        )


def fulfil(
    stages: Sequence[Stage],
    store: Store,
    run: str,
    execute: Callable[[list[Stage]], None],
    patience: float = 0.0,
    halt: Halt | None = None,
    needs: Sequence[Stage] = (),
) -> None:
    """Return once the store has every one of `stages` (parents first), by `execute` or by waiting
    for others. Raises LostResultError where what they build on, or what they `need` beside it,
    turns out to be damaged.

    Leases are only tried for, parents first, and nothing is waited for while one is held: no
    deadlock. For the first `patience` seconds only others are waited for."""
    watches: dict[str, LeaseWatch] = {}
    patient_until, halt = time.monotonic() + patience, halt or Halt()
    while missing := [s for s in stages if not store.done(s.key)]:
        if halt.asked():
            raise HaltedError
        if time.monotonic() < patient_until and not _failed_in(missing[0], store, run):
            time.sleep(POLL_SECONDS * store.root.pace)
            continue
        for stage in reversed(
            missing
        ):  # last first: where the first one's holder is dead, theirs are known to be too
            watches.setdefault(stage.key, LeaseWatch(store.work(stage.key))).look()
        with ExitStack() as held:
            mine: list[tuple[Stage, Lease]] = []
            for stage in missing:
                lease = watches[stage.key].try_take()
                if lease is None:
                    break
                halt.add(held.enter_context(lease))
                if store.surely_done(stage.key):  # finished between the look and the lease
                    store.discard_work(stage.key)
                    break
                mine.append((stage, lease))
            if mine:
                _run_held(mine, store, run, execute, needs)
                continue
        time.sleep(POLL_SECONDS * store.root.pace)
    for stage in stages:  # whoever waited may have made a finished stage's work folder again
        store.discard_work(stage.key)


def _failed_in(stage: Stage, store: Store, run: str) -> bool:
    failure = store.failure(stage)
    return failure is not None and failure["run"] == run and failure["final"]


def _run_held(
    held: list[tuple[Stage, Lease]],
    store: Store,
    run: str,
    execute: Callable[[list[Stage]], None],
    needs: Sequence[Stage],
) -> None:
    """Run the stages whose leases are held, up to TRIES times; returns early where a lease turns
    out to be lost. Raises LostResultError, since nothing is waited for while leases are held."""
    built_on = [
        s
        for s in (*integrity.ancestors(stage for stage, _ in held), *needs)
        if s not in [h for h, _ in held]
    ]
    for attempt in range(1, TRIES + 1):
        for stage, _ in held:
            if _failed_in(stage, store, run):
                raise StageFailedError((store.failure(stage) or {})["cause"])
            store.clear_failure(stage)
        todo = [s for s, _ in held if not store.done(s.key)]
        try:
            if todo:
                execute(todo)
            return
        except Exception as e:
            if any(lease.gone() for stage, lease in held if not store.done(stage.key)):
                return  # whoever took this process for dead goes on with the work
            if lost := integrity.lost_among(
                store, built_on, isinstance(innermost(e), CorruptFileError)
            ):
                for stage in todo:
                    store.clear_failure(stage)
                raise LostResultError(lost, first_line(e)) from e
            failed = next((s for s in todo if not store.done(s.key)), todo[-1])
            failure = store.failure(failed) or {
                "cause": cause(failed, e),
                "final": disk_refuses(innermost(e)),
            }
            if failure["final"] or attempt == TRIES:
                with suppress(OSError):
                    store.write_failure(
                        failed, {"traceback": str(e), **failure, "run": run, "final": True}
                    )
                raise StageFailedError(failure["cause"]) from e
            store.clear_failure(failed)


def train(stages: list[Stage], trial: Trial, run: Run) -> None:
    """Train `stages`, a run of the chain of `trial`, in one Ray Train worker group."""
    from orchestrator.execution.worker_group import fit

    checkpoint = run.config.checkpoint
    job = Job(
        stages=tuple(stages),
        leases=tuple(newest(Store(run.storage).work(stage.key)) for stage in stages),
        storage=run.storage,
        data=trial.config.data,
        saving=Saving(checkpoint.steps, checkpoint.minutes, checkpoint.keep),
        threads=max(1, int(run.config.cluster.cpus_per_worker)),
        compile=run.config.cluster.compile,
        run=run.id,
        watch=watch_of(trial.config, trial.reference),
    )
    fit(job, run.config.cluster, run.ray_folder)


def refer(stage: Stage, trial: Trial, run: Run) -> None:
    """Train the own features of the data of `trial`, or compute the reference features of it, in a
    Ray task."""
    import ray

    own = trial.config
    task = {"features": "train_features", "reference": "build_reference"}[stage.kind]
    ray.get(_task(task, run).remote(stage, run.storage, own.data, weights_of(own)))


def evaluate(stage: Stage, trial: Trial, run: Run) -> None:
    """Sample and score in Ray tasks: parts of the images side by side, then the comparison."""
    import ray

    began = time.monotonic()
    data = trial.config.data
    weights = weights_of(trial.config)
    draw, total = _task("sample_part", run), stage.evaluation_spec.samples
    parts = [
        draw.remote(
            stage, run.storage, data, weights, replica, first, min(IMAGES_PER_PART, total - first)
        )
        for replica in range(stage.evaluation_spec.seeds)
        for first in range(0, total, IMAGES_PER_PART)
    ]
    ray.wait(parts, num_returns=len(parts), fetch_local=False)
    ray.get(_task("score", run).remote(stage, run.storage, data, time.monotonic() - began, *parts))


def _task(function: str, run: Run) -> Any:
    """A function of `evaluation` as a Ray task; only the task's process imports it, and torch with
    it."""
    import ray

    def called(*arguments: Any) -> Any:
        from orchestrator.work import evaluation

        return getattr(evaluation, function)(*arguments)

    gpus = min(1.0, run.config.cluster.gpus_per_worker)
    # max_calls=0 keeps the process, and with it the imports, the network and the features
    task = ray.remote(num_cpus=1, num_gpus=gpus, max_calls=0, max_retries=2)(called)
    # not inside the trial's own placement group, which holds nothing to compute with
    return task.options(scheduling_strategy="DEFAULT", name=function)
