"""The trials of a plan through Ray Tune, each a coordinator that completes its stages.

Running the same command again is how to resume: finished stages are found in the store, unfinished
ones continue."""

import shutil
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from orchestrator.cluster import connection, ray_internals
from orchestrator.cluster.resources import available_resources
from orchestrator.execution.fulfil import TRIES, Run
from orchestrator.settings.experiment import Experiment
from orchestrator.store.run_folder import RunFolder
from orchestrator.sweeps.records import Records
from orchestrator.sweeps.status import Status


def run_trials(records: Records, address: str | None, wake: Callable[[], None]) -> None:
    """All unfinished trials through Ray Tune; notes each ending as it comes, and calls `wake` to
    have it published."""
    from orchestrator.execution.proposals import Budget

    experiment, budget = records.plan.experiment, Budget(records)
    run_here = Run(uuid.uuid4().hex[:12], str(records.store.root), experiment)
    with (
        RunFolder(run_here.place, f"{experiment.name}/{records.plan.id}"),
        _removed(run_here.ray_folder),
    ):
        connection.connect(address)
        records.dashboard = connection.dashboard()
        try:
            # terminable again: Ray has put a handler of its own, which aborts the process
            with ray_internals.uncounted_callbacks(), connection.sigterm_interrupts():
                _tuner(records, run_here, budget, available_resources(), wake).fit()
                _note_left(records, budget.used_up())
        finally:
            connection.disconnect()


def _tuner(
    records: Records, run_here: Run, budget: Any, there: dict[str, float], wake: Callable[[], None]
) -> Any:
    from ray import tune

    from orchestrator.execution import early_stopping
    from orchestrator.execution.coordinator import Noting, coordinate
    from orchestrator.execution.proposals import Proposals

    plan = records.plan
    todo = [t for t in plan.running_order() if records.endings[t.index].status == Status.WAITING]
    leaders = {t.index for t in plan.part({t.index for t in todo}).leaders()}
    # the head's marker resource instead of a share of a CPU: waiting trials take nothing from those
    # that work
    held = tune.PlacementGroupFactory([{"node:__internal_head__": 0.001}])
    return tune.Tuner(
        tune.with_resources(tune.with_parameters(coordinate, run=run_here), held),
        tune_config=tune.TuneConfig(
            search_alg=Proposals(records, run_here, todo, leaders, budget),
            scheduler=early_stopping.scheduler(plan),
            num_samples=-1,  # until there is nothing more to propose
            max_concurrent_trials=concurrent_trials(plan.experiment, there),
            reuse_actors=True,
        ),
        run_config=tune.RunConfig(
            name="tune",
            storage_path=str(run_here.ray_folder),
            verbose=0,
            callbacks=[Noting(records, budget, wake)],
            failure_config=tune.FailureConfig(
                max_failures=TRIES
            ),  # a coordinator that died begins again, and finds
        ),
    )


def concurrent_trials(experiment: Experiment, there: dict[str, float]) -> int:
    """How many trials are under way at once: what the sweep says, or as many worker groups as there
    is room for."""
    sweep, cluster_ = experiment.sweep, experiment.cluster
    if sweep is None:
        return 1
    if sweep.max_concurrent_trials is not None:
        return sweep.max_concurrent_trials
    room = there.get("CPU", 1.0) / (cluster_.workers * cluster_.cpus_per_worker)
    if cluster_.gpus_per_worker:
        room = min(room, there.get("GPU", 0.0) / (cluster_.workers * cluster_.gpus_per_worker))
    return max(1, int(room + 1e-9))


def _note_left(records: Records, reason: str) -> None:
    """Note in trials that were not begun which budget kept them from it."""
    if reason:
        records.choose((), reason)


@contextmanager
def _removed(folder: Path) -> Iterator[None]:
    """`folder`, which somebody may make, is not there afterwards."""
    try:
        yield
    finally:
        shutil.rmtree(folder, ignore_errors=True)
