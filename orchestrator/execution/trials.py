"""Runs the trials of a plan with Ray Tune; each trial is a coordinator that completes its stages.

To resume, run the same command again: finished stages are found in the store, and unfinished ones
continue from their last checkpoint."""

import shutil
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from orchestrator.cluster import connection, ray_internals
from orchestrator.cluster.resources import available_resources
from orchestrator.execution.stage_runner import TRIES, Run
from orchestrator.settings.experiment import Experiment
from orchestrator.store.run_folder import RunFolder
from orchestrator.sweeps.records import Records
from orchestrator.sweeps.status import Status


def run_trials(records: Records, address: str | None, publish_soon: Callable[[], None]) -> None:
    """Run all unfinished trials with Ray Tune; record how each ended, and call `publish_soon` after
    it."""
    from orchestrator.execution.searcher import Budget
    from orchestrator.execution.steering import Steering

    experiment, budget = records.plan.experiment, Budget(records)
    run = Run(uuid.uuid4().hex[:12], str(records.store.root), experiment)
    with (
        RunFolder(run.folder, records.plan.name),
        _removed_afterwards(run.ray_folder),
    ):
        connection.connect(address)
        records.dashboard = connection.dashboard()
        try:
            # again, because `connect` has installed Ray's own handler, which aborts the process
            steering = Steering(records, run.folder)
            with (
                ray_internals.uncounted_callbacks(),
                connection.sigterm_interrupts(),
                steering.listening(),
            ):
                _tuner(records, run, budget, steering, publish_soon).fit()
            if reason := budget.used_up():
                records.skip_all_but((), reason)  # the trials that have not begun
        finally:
            connection.disconnect()


def _tuner(
    records: Records, run: Run, budget: Any, steering: Any, publish_soon: Callable[[], None]
) -> Any:
    from ray import tune

    from orchestrator.execution import early_stopping
    from orchestrator.execution.coordinator import OutcomeCallback, coordinate
    from orchestrator.execution.searcher import PlanSearcher

    plan = records.plan
    at_once = concurrent_trials(plan.experiment, available_resources())
    todo = [t for t in plan.running_order() if records.endings[t.index].status == Status.WAITING]
    leaders = {t.index for t in plan.part({t.index for t in todo}).leaders()}
    run = replace(run, at_once=at_once if plan.grows else min(at_once, max(1, len(todo))))
    # the head's marker resource instead of a share of a CPU: coordinators that wait take no CPU
    # from what computes
    reserved = tune.PlacementGroupFactory([{"node:__internal_head__": 0.001}])
    return tune.Tuner(
        tune.with_resources(tune.with_parameters(coordinate, run=run), reserved),
        tune_config=tune.TuneConfig(
            search_alg=PlanSearcher(records, run, todo, leaders, budget, steering),
            scheduler=early_stopping.scheduler(plan),
            num_samples=-1,  # until the searcher has finished
            max_concurrent_trials=at_once,
            reuse_actors=True,
        ),
        run_config=tune.RunConfig(
            name="tune",
            storage_path=str(run.ray_folder),
            verbose=0,
            callbacks=[OutcomeCallback(records, budget, steering, publish_soon)],
            # Tune restarts a coordinator that died; it then finds what is finished in the store
            failure_config=tune.FailureConfig(max_failures=TRIES),
        ),
    )


def concurrent_trials(experiment: Experiment, available: dict[str, float]) -> int:
    """How many trials run at once: `sweep.max_concurrent_trials`, or as many worker groups as the
    available CPUs and GPUs allow."""
    sweep, cluster = experiment.sweep, experiment.cluster
    if sweep is None:
        return 1
    if sweep.max_concurrent_trials is not None:
        return sweep.max_concurrent_trials
    groups = available.get("CPU", 1.0) / (cluster.min_workers * cluster.cpus_per_worker)
    if cluster.gpus_per_worker:
        gpus_per_group = cluster.min_workers * cluster.gpus_per_worker
        groups = min(groups, available.get("GPU", 0.0) / gpus_per_group)
    return max(1, int(groups + 1e-9))


@contextmanager
def _removed_afterwards(folder: Path) -> Iterator[None]:
    """Remove `folder`, where it exists, at the end of the context."""
    try:
        yield
    finally:
        shutil.rmtree(folder, ignore_errors=True)
