"""Runs stages: finds finished ones, runs each missing one under its lease, and waits without any
lease for stages that another process works on.

A trial is a coordinator. This module starts what computes: one Ray Train worker group for all the
missing training stages of a chain, and Ray tasks for sampling and features."""

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kaccore.files import CorruptFileError
from orchestrator.host import machine
from orchestrator.plan.plan import Trial
from orchestrator.plan.stage import TRAINING, Stage
from orchestrator.settings.blocks import Cluster
from orchestrator.settings.experiment import Experiment
from orchestrator.store import integrity, layout
from orchestrator.store.failures import cause, first_line, innermost
from orchestrator.store.folder import Folder
from orchestrator.store.leases import Lease, LeaseWatch, StopRequest, newest
from orchestrator.store.place import Place
from orchestrator.store.places import place_of
from orchestrator.store.run_requests import Orders
from orchestrator.store.store import Store, storage_refuses
from orchestrator.work.job import OFFICIAL_WEIGHTS, Job, Saving, watch_of, weights_of

if TYPE_CHECKING:
    from orchestrator.execution.group_size import Elasticity

POLL_SECONDS = 0.5
# attempts at a stage that fails without a fault in its settings (a lost worker or node, memory);
# one that saved progress begins the count again
TRIES = 3
LEADER_SECONDS = 30.0  # how long a trial that is no leader waits for its leader to start
# images per task of an evaluation: the start of a new process would outweigh a smaller task
IMAGES_PER_PART = 2048


class StageFailedError(RuntimeError):
    """A stage cannot be completed; the message begins with the cause."""


class ReferenceFailedError(StageFailedError):
    """The features of the real images, or own features before them, cannot be computed, so nothing
    was trained. `key`: of the stage that failed."""

    def __init__(self, key: str, why: str) -> None:
        self.key = key
        super().__init__(why)


class LostResultError(RuntimeError):
    """Results that a stage depends on, those of `stages`, are damaged or removed and must be
    computed again first."""

    def __init__(self, stages: Sequence[Stage], why: str) -> None:
        self.stages = list(stages)
        super().__init__(f"{', '.join(stage.label for stage in stages)}: damaged or removed: {why}")


class TrialStoppedError(RuntimeError):
    """A stop of the trial was requested before it was complete, by Ray Tune or from a terminal."""


@dataclass(frozen=True)
class Run:
    """One invocation of a command: what the coordinators of all its trials share. `id` differs
    between invocations."""

    id: str
    storage: str
    config: Experiment
    at_once: int = 1  # trials, which share the cluster

    @property
    def folder(self) -> Place:
        """The folder of this invocation in the store, removed at its end."""
        return place_of(self.storage) / layout.RAY / self.id

    @property
    def ray_folder(self) -> Path:
        """The folder of Ray's own files during this invocation. Ray insists on a folder; nothing is
        shared through it, since checkpoints and results go through the store."""
        if isinstance(self.folder, Folder):
            return self.folder
        return machine.temporary_folder() / "ray" / self.id

    def stop_request(self, trial: Trial) -> StopRequest:
        """The request to stop `trial` that the driver's orders make."""
        orders = Orders(self.folder)
        return StopRequest(lambda: orders.cancelled(trial.index), orders.paused)


def complete_trial(
    trial: Trial, run: Run, leader: bool = True, stop: StopRequest | None = None
) -> None:
    """Complete every stage of `trial`, its reference features first: if they fail, nothing is
    trained. Raises StageFailedError with the cause where a stage fails, and TrialStoppedError after
    a `stop` request.

    A trial that is no `leader` leaves the training to the trial whose chain contains its own, so
    that one worker group trains a chain. It starts the training itself if no process has after
    LEADER_SECONDS."""
    store, stop = Store(run.storage), stop or run.stop_request(trial)
    for attempt in range(1, TRIES + 1):
        try:
            _complete_trial(trial, run, store, leader or attempt > 1, stop)
            return
        except LostResultError as e:
            for stage in e.stages:
                integrity.set_aside(store, stage)
            if attempt == TRIES:
                raise StageFailedError(f"failed {TRIES} times: {e}") from e


def _complete_trial(trial: Trial, run: Run, store: Store, leader: bool, stop: StopRequest) -> None:
    measured_by = trial.measured_by()
    for stage in measured_by:
        try:
            run_stages(
                [stage],
                store,
                run.id,
                lambda stages: compute_features(stages[0], trial, run),
                stop=stop,
            )
        except StageFailedError as e:
            raise ReferenceFailedError(stage.key, str(e)) from e
    run_stages(
        trial.chain,
        store,
        run.id,
        lambda stages: train(stages, trial, run),
        patience=0.0 if leader else LEADER_SECONDS,
        stop=stop,
        needs=measured_by,  # for the teacher's FIDs during training
    )
    if trial.evaluation is not None:
        run_stages(
            [trial.evaluation],
            store,
            run.id,
            lambda stages: evaluate(stages[0], trial, run),
            stop=stop,
        )


def run_stages(
    stages: Sequence[Stage],
    store: Store,
    run: str,
    execute: Callable[[list[Stage]], None],
    patience: float = 0.0,
    stop: StopRequest | None = None,
    needs: Sequence[Stage] = (),
) -> None:
    """Return once the store has a result of each of `stages` (parents first), by `execute` or by
    waiting for other processes. Raises LostResultError where a result of an ancestor, or of one of
    `needs`, is damaged or removed.

    Leases are taken without waiting, parents first, and no process waits while holding one, so there is
    no deadlock. During the first `patience` seconds, and while `stop` says that the run is paused,
    no lease is taken."""
    watches: dict[str, LeaseWatch] = {}
    patient_until, stop = time.monotonic() + patience, stop or StopRequest()
    while missing := [s for s in stages if not store.done(s.key)]:
        if stop.requested():
            raise TrialStoppedError
        if stop.paused():
            time.sleep(POLL_SECONDS * store.root.poll_factor)
            continue
        if time.monotonic() < patient_until and not _failed_in(missing[0], store, run):
            time.sleep(POLL_SECONDS * store.root.poll_factor)
            continue
        # last first: once the first one's lease is known to be stale, those of the others are too
        for stage in reversed(missing):
            watches.setdefault(stage.key, LeaseWatch(store.work(stage.key))).observe()
        with ExitStack() as leases:
            held: list[tuple[Stage, Lease]] = []
            for stage in missing:
                lease = watches[stage.key].try_take()
                if lease is None:
                    break
                stop.add(leases.enter_context(lease))
                if store.done_uncached(stage.key):  # finished before the lease was taken
                    store.discard_work(stage.key)
                    break
                held.append((stage, lease))
            if held:
                _run_held(held, store, run, execute, needs)
                continue
        time.sleep(POLL_SECONDS * store.root.poll_factor)
    for stage in stages:  # a waiting process may have recreated a finished stage's work folder
        store.discard_work(stage.key)


def _failed_in(stage: Stage, store: Store, run: str) -> bool:
    """Whether `stage` has failed for good in this `run`."""
    failure = store.failure(stage)
    return failure is not None and failure["run"] == run and failure["final"]


def _run_held(
    held: list[tuple[Stage, Lease]],
    store: Store,
    run: str,
    execute: Callable[[list[Stage]], None],
    needs: Sequence[Stage],
) -> None:
    """Run the stages whose leases are held, in up to TRIES attempts without progress; returns early
    if a lease is lost. Raises LostResultError, because a lost result may belong to a stage that another process
    works on, and no process waits while holding leases."""
    stages = [stage for stage, _ in held]
    depends_on = [s for s in (*integrity.ancestors(stages), *needs) if s not in stages]
    attempt, reached = 1, store.reached(stages)
    while True:
        for stage in stages:
            if _failed_in(stage, store, run):
                raise StageFailedError((store.failure(stage) or {})["cause"])
            store.clear_failure(stage)
        missing = [stage for stage in stages if not store.done(stage.key)]
        try:
            if missing:
                execute(missing)
            return
        except Exception as e:
            if any(lease.is_lost() for stage, lease in held if not store.done(stage.key)):
                return  # the process that presumed this one dead continues the work
            read_damaged_file = isinstance(innermost(e), CorruptFileError)
            lost = integrity.lost_among(store, depends_on, read_damaged_file)
            if lost:
                for stage in missing:
                    store.clear_failure(stage)
                raise LostResultError(lost, first_line(e)) from e
            before, reached = reached, max(reached, store.reached(stages))
            # lost nodes may interrupt a long training any number of times
            attempt = 0 if reached > before else attempt
            _retry_or_raise(missing, store, run, e, last=attempt == TRIES)
            attempt += 1


def _retry_or_raise(
    missing: list[Stage], store: Store, run: str, error: Exception, last: bool
) -> None:
    """Return if another attempt makes sense; else record the failure and raise StageFailedError."""
    failed = next((s for s in missing if not store.done(s.key)), missing[-1])
    failure = store.failure(failed)
    if failure is None:
        failure = {"cause": cause(failed, error), "final": storage_refuses(innermost(error))}
    if failure["final"] or last:
        with suppress(OSError):
            record = {"traceback": str(error), **failure, "run": run, "final": True}
            store.write_failure(failed, record)
        raise StageFailedError(failure["cause"]) from error
    store.clear_failure(failed)


def train(stages: list[Stage], trial: Trial, run: Run) -> None:
    """Train `stages`, consecutive ones of the chain of `trial`, in one Ray Train worker group."""
    from orchestrator.execution.worker_group import fit

    cluster = trial.config.cluster
    elasticity = None
    if isinstance(cluster.workers, dict):
        elasticity = _elasticity(stages, cluster, run)
    checkpoint = run.config.checkpoint
    job = Job(
        stages=tuple(stages),
        leases=tuple(newest(Store(run.storage).work(stage.key)) for stage in stages),
        storage=run.storage,
        data=trial.config.data,
        saving=Saving(checkpoint.steps, checkpoint.minutes, checkpoint.keep),
        threads=max(1, int(cluster.cpus_per_worker)),
        compile=cluster.compile,
        run=run.id,
        watch=watch_of(trial.config, trial.reference),
    )
    fit(job, cluster, run.ray_folder, elasticity)


def _elasticity(stages: list[Stage], cluster: Cluster, run: Run) -> "Elasticity":
    """The sizes that the group of `stages` may have: those that divide the batches of all of them,
    up to this trial's share of the cluster."""
    from orchestrator.cluster.resources import room
    from orchestrator.execution.group_size import Elasticity

    store = Store(run.storage)
    trained = [stage.training_spec.optimise for stage in stages if stage.kind in TRAINING]
    return Elasticity(
        cluster.group_sizes(trained),
        lambda: room(cluster) // run.at_once,
        lambda: store.reached(stages),
    )


def compute_features(stage: Stage, trial: Trial, run: Run) -> None:
    """Train the own features of the data of `trial`, or compute their reference features, in a Ray
    task."""
    import ray

    config = trial.config
    function = {"features": "train_features", "reference": "build_reference"}[stage.kind]
    weights = OFFICIAL_WEIGHTS if stage == trial.second else weights_of(config)
    ray.get(_task(function, run).remote(stage, run.storage, config.data, weights))


def evaluate(stage: Stage, trial: Trial, run: Run) -> None:
    """Sample and score in Ray tasks: parts of the images in parallel, then the metrics."""
    import ray

    began = time.monotonic()
    data = trial.config.data
    weights = weights_of(trial.config)
    total = stage.evaluation_spec.samples
    sample_part = _task("sample_part", run)
    parts = []
    for replica in range(stage.evaluation_spec.seeds):
        for first in range(0, total, IMAGES_PER_PART):
            count = min(IMAGES_PER_PART, total - first)
            parts.append(
                sample_part.remote(stage, run.storage, data, weights, replica, first, count)
            )
    ray.wait(parts, num_returns=len(parts), fetch_local=False)
    ray.get(_task("score", run).remote(stage, run.storage, data, time.monotonic() - began, *parts))


def _task(name: str, run: Run) -> Any:
    """The function `name` of `work.evaluation` as a Ray task; only the task's process imports it,
    and with it torch."""
    import ray

    def function(*arguments: Any) -> Any:
        from orchestrator.work import evaluation

        return getattr(evaluation, name)(*arguments)

    gpus = min(1.0, run.config.cluster.gpus_per_worker)
    # max_calls=0 keeps the process, and with it the imports, the network and the features
    task = ray.remote(num_cpus=1, num_gpus=gpus, max_calls=0, max_retries=2)(function)
    # not inside the trial's own placement group, which has no CPUs or GPUs
    return task.options(scheduling_strategy="DEFAULT", name=name)
