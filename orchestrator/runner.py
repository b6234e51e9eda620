"""Runs a plan: Ray Tune trials that complete stages, MLflow and the report kept up beside them, a table at the end.

Running the same command again is how to resume: finished stages are found in the store, unfinished ones continue.
"""

import signal
import traceback
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from rich.console import Console
from rich.table import Table

from orchestrator import cluster, summary
from orchestrator.faults import ConfigError
from orchestrator.plan import TRAINING, Plan
from orchestrator.publisher import Publisher
from orchestrator.records import Records
from orchestrator.scratch import Scratch
from orchestrator.stages import TRIES, Run, first_line
from orchestrator.store import Store
from orchestrator.view import View

DONE, FAILED, INTERRUPTED = 0, 1, 130


def run(plan: Plan, address: str | None, console: Console) -> int:
    """Complete `plan` and return the exit status: 0 all done, 1 some trial failed, 130 interrupted."""
    cluster.quieten()
    records = Records(plan, Store(plan.experiment.storage))
    records.open()
    _introduce(records, console)
    with Publisher(records) as publisher, View(records, console):
        interrupted = _attempt(records, address, publisher)
    for ending in records.endings:
        if ending.status == "waiting":
            ending.status = "interrupted"
    done = all(e.status == "done" for e in records.endings)
    status = INTERRUPTED if interrupted else DONE if done else FAILED
    _write(records)
    publisher.finish({DONE: "FINISHED", FAILED: "FAILED", INTERRUPTED: "KILLED"}[status])
    records.try_save()
    summary.conclude(records, console, publisher.problem)
    return FAILED if records.problem and status == DONE else status


def _attempt(records: Records, address: str | None, publisher: Publisher) -> bool:
    """Run what is not done; whether that was interrupted. What ends the whole run is noted in every open trial."""
    try:
        with _terminable():
            if any(e.status != "done" for e in records.endings):
                _run_trials(records, address, publisher)
    except KeyboardInterrupt:
        return True
    except ConfigError:
        raise
    except Exception as e:
        unexplained = [ending for ending in records.endings if ending.status == "waiting"]
        for ending in unexplained:
            ending.status, ending.error = "failed", first_line(e)
        if unexplained and not isinstance(e, OSError):
            traceback.print_exc()
    return False


def _write(records: Records) -> None:
    try:
        summary.write(records)
    except OSError as e:
        records.problem = str(e)


def _run_trials(records: Records, address: str | None, publisher: Publisher) -> None:
    """All unfinished trials through Ray Tune; notes each ending as it comes."""
    experiment = records.plan.experiment
    run_here = Run(uuid.uuid4().hex[:12], str(records.store.root), experiment)
    with Scratch(run_here.ray_folder, f"{experiment.name}/{records.plan.id}"):
        resources = cluster.connect(address)
        try:
            cluster.check_resources(experiment, experiment.name, resources.get("CPU", 0.0), resources.get("GPU", 0.0))
            with _terminable():  # again: Ray has put a handler of its own, which aborts the process, in place of ours
                _tuner(records, run_here, publisher).fit()
        finally:
            cluster.disconnect()


def _tuner(records: Records, run_here: Run, publisher: Publisher) -> Any:
    from ray import tune

    from orchestrator.coordinator import Noting, coordinate

    plan, sweep = records.plan, records.plan.experiment.sweep
    todo = [t for t in plan.running_order() if records.endings[t.index].status != "done"]
    leaders = {t.index for t in plan.leaders()}
    trainable = tune.with_parameters(coordinate, run=run_here, trials={t.index: t for t in todo}, leaders=leaders)
    # the head's marker resource instead of a share of a CPU: waiting trials take nothing from those that work
    resources = tune.PlacementGroupFactory([{"node:__internal_head__": 0.001}])
    concurrent = sweep.max_concurrent_trials if sweep else 1
    return tune.Tuner(
        tune.with_resources(trainable, resources),
        param_space={"trial": tune.grid_search([t.index for t in todo])},
        tune_config=tune.TuneConfig(max_concurrent_trials=concurrent, reuse_actors=True),
        run_config=tune.RunConfig(
            name="tune",
            storage_path=str(run_here.ray_folder),
            verbose=0,
            callbacks=[Noting(records, publisher.wake)],
            failure_config=tune.FailureConfig(max_failures=TRIES),  # a coordinator that died begins again, and finds
        ),
    )


@contextmanager
def _terminable() -> Iterator[None]:
    """SIGTERM interrupts like Ctrl-C while this is open."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _introduce(records: Records, console: Console) -> None:
    plan = records.plan
    stages = list(plan.stages())
    there = sum(records.store.done(s.key) for s in stages)
    console.print(
        f"{plan.experiment.name} {plan.id}: {len(plan.trials)} trials, {len(stages)} stages, {there} already done",
        highlight=False,
    )
    summary.print_skipped(plan, console)


def print_plan(plan: Plan, console: Console) -> None:
    """The dry run: trials, stages, and which of them the store has."""
    store = Store(plan.experiment.storage)
    console.print(f"{plan.experiment.name} {plan.id}: {len(plan.trials)} trials", highlight=False)
    summary.print_skipped(plan, console)
    trials = Table("trial", "settings", "stages", title="trials", title_justify="left")
    for trial in plan.trials:
        trials.add_row(str(trial.index), trial.title, " -> ".join(s.label for s in trial.stages()))
    console.print(trials)
    stages = Table("stage", "key", "training steps", "state", title="stages, each run once", title_justify="left")
    for stage in plan.stages():
        steps = str(stage.steps) if stage.kind in TRAINING else ""
        stages.add_row(stage.label, stage.key, steps, "done" if store.done(stage.key) else "to do")
    console.print(stages)
