"""Runs a plan: Ray Tune trials that complete stages, MLflow and the report kept up beside them, a table at the end.

Running the same command again is how to resume: finished stages are found in the store, unfinished ones continue.
"""

import shutil
import traceback
import uuid
from collections.abc import Callable, Container, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from kaccore.files import CorruptFileError
from orchestrator import cluster, integrity, machine, summary
from orchestrator.causes import first_line
from orchestrator.config import Experiment
from orchestrator.faults import ConfigError
from orchestrator.feature_notes import own_features
from orchestrator.fulfil import TRIES, Run
from orchestrator.graph import TRAINING
from orchestrator.plan import Plan
from orchestrator.publisher import Publisher
from orchestrator.records import ENDED_WELL, Records
from orchestrator.scratch import Scratch, clear_after_the_dead
from orchestrator.store import Store, with_remedy
from orchestrator.view import View

DONE, FAILED, INTERRUPTED = 0, 1, 130
EXAMPLES = 3  # points of a sweep by optuna that a dry run shows


def run(
    records: Records, address: str | None, console: Console, only: Container[int] | None = None, again: str = ""
) -> int:
    """Complete the plan of `records`, or the trials `only` of it, and return the exit status: 0 all done, 1 some trial
    failed, 130 interrupted. `again` is the command line that goes on with an interrupted run."""
    cluster.quieten(address)
    plan = records.plan if only is None else records.plan.part(only)
    for line in integrity.mend(records.store, list(plan.stages())):
        console.print(line, style="yellow", markup=False, highlight=False, soft_wrap=True)
    records.open()
    if only is not None:
        records.choose(only, "left out by --only")
    _introduce(records, console)
    with Publisher(records, partial(summary.say, console)) as publisher, View(records, console):
        status = _attempt(records, address, publisher)
    if status == DONE and not all(e.status in ENDED_WELL for e in records.endings):
        status = FAILED
    records.interrupt()
    _write(records)
    publisher.finish({DONE: "FINISHED", FAILED: "FAILED", INTERRUPTED: "KILLED"}[status])
    records.try_save()
    summary.conclude(records, console, publisher.problem)
    if status == INTERRUPTED:
        summary.print_again(records, console, again)
    return FAILED if (records.problem or records.damaged) and status == DONE else status


def _attempt(records: Records, address: str | None, publisher: Publisher) -> int:
    """Run what is not done: INTERRUPTED, FAILED where something ended the whole run, which is noted in every open
    trial, or DONE, whatever became of single trials."""
    try:
        with cluster.terminable():
            if records.unfinished():
                run_trials(records, address, publisher)
            else:
                clear_after_the_dead(records.store.root / "ray")
    except KeyboardInterrupt:
        return INTERRUPTED
    except ConfigError:
        raise
    except Exception as e:
        unexplained = [ending for ending in records.endings if ending.status == "waiting"]
        why = first_line(e)
        records.update_all(lambda _, e: replace(e, status="failed", error=why) if e.status == "waiting" else e)
        if (unexplained or not records.endings) and not isinstance(e, OSError):
            traceback.print_exc()
        return FAILED if unexplained or not records.endings else DONE
    return DONE


def _write(records: Records) -> None:
    try:
        summary.write(records)
    except OSError as e:
        records.problem = with_remedy(e)
    except CorruptFileError as e:
        records.problem = str(e)


def run_trials(records: Records, address: str | None, publisher: Publisher) -> None:
    """All unfinished trials through Ray Tune; notes each ending as it comes."""
    from orchestrator.proposals import Budget

    experiment, budget = records.plan.experiment, Budget(records)
    run_here = Run(uuid.uuid4().hex[:12], str(records.store.root), experiment)
    with Scratch(run_here.place, f"{experiment.name}/{records.plan.id}"), _removed(run_here.ray_folder):
        cluster.connect(address)
        records.dashboard = cluster.dashboard()
        try:
            with cluster.terminable():  # again: Ray has put a handler of its own, which aborts the process
                _tuner(records, run_here, budget, cluster.resources(), publisher.wake).fit()
                _note_left(records, budget.used_up())
        finally:
            cluster.disconnect()


def _tuner(records: Records, run_here: Run, budget: Any, resources: dict[str, float], wake: Callable[[], None]) -> Any:
    from ray import tune
    from ray.air._internal import usage

    from orchestrator import early_stopping
    from orchestrator.coordinator import Noting, coordinate
    from orchestrator.proposals import Proposals

    # it imports what Ray has for Comet, W&B and MLflow, to count callbacks for statistics that are off
    usage.tag_callbacks = lambda callbacks: False
    plan = records.plan
    todo = [t for t in plan.running_order() if records.endings[t.index].status == "waiting"]
    leaders = {t.index for t in plan.part({t.index for t in todo}).leaders()}
    # the head's marker resource instead of a share of a CPU: waiting trials take nothing from those that work
    held = tune.PlacementGroupFactory([{"node:__internal_head__": 0.001}])
    return tune.Tuner(
        tune.with_resources(tune.with_parameters(coordinate, run=run_here), held),
        tune_config=tune.TuneConfig(
            search_alg=Proposals(records, run_here, todo, leaders, budget),
            scheduler=early_stopping.scheduler(plan),
            num_samples=-1,  # until there is nothing more to propose
            max_concurrent_trials=concurrent_trials(plan.experiment, resources),
            reuse_actors=True,
        ),
        run_config=tune.RunConfig(
            name="tune",
            storage_path=str(run_here.ray_folder),
            verbose=0,
            callbacks=[Noting(records, budget, wake)],
            failure_config=tune.FailureConfig(max_failures=TRIES),  # a coordinator that died begins again, and finds
        ),
    )


def concurrent_trials(experiment: Experiment, resources: dict[str, float]) -> int:
    """How many trials are under way at once: what the sweep says, or as many worker groups as there is room for."""
    sweep, cluster_ = experiment.sweep, experiment.cluster
    if sweep is None:
        return 1
    if sweep.max_concurrent_trials is not None:
        return sweep.max_concurrent_trials
    room = resources.get("CPU", 1.0) / (cluster_.workers * cluster_.cpus_per_worker)
    if cluster_.gpus_per_worker:
        room = min(room, resources.get("GPU", 0.0) / (cluster_.workers * cluster_.gpus_per_worker))
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


def _introduce(records: Records, console: Console) -> None:
    plan = records.plan
    stages = list(plan.stages())
    there = sum(records.store.done(s.key) for s in stages)
    console.print(
        f"{plan.experiment.name} {plan.id}: {len(plan.trials)} trials, {len(stages)} stages, {there} already done",
        highlight=False,
    )
    summary.print_skipped(plan, console)
    about = (note for info in plan.datasets() for note in info.notes)
    for note in dict.fromkeys([*about, *own_features(plan, records.store)]):
        console.print(note, markup=False, highlight=False, soft_wrap=True)


def print_plan(plan: Plan, console: Console, only: Container[int] | None = None, notes: Iterable[str] = ()) -> None:
    """The dry run: trials, stages, which of them the store has, what the rest will take, and `notes`."""
    from orchestrator import forecast

    store, experiment = Store(plan.experiment.storage), plan.experiment
    console.print(f"{experiment.name} {plan.id}: {len(plan.trials)} trials", highlight=False)
    about = [*(note for info in plan.datasets() for note in info.notes), *own_features(plan, store), *notes]
    for note in dict.fromkeys(about):
        console.print(note, markup=False, highlight=False, soft_wrap=True)
    chosen, copies = plan if only is None else plan.part(only), 1.0
    if plan.grows and experiment.sweep is not None and experiment.sweep.num_trials is not None:
        wanted = experiment.sweep.num_trials
        drawn = len(plan.expansion.points)
        console.print(f"{drawn} of {wanted} points are drawn; the others will be while these end", highlight=False)
        plan = chosen = with_examples(plan)
        copies = wanted / len(plan.expansion.points)
        if examples := len(plan.expansion.points) - drawn:
            console.print(f"the last {examples} points below are examples of what may be drawn", highlight=False)
    summary.print_skipped(plan, console)
    trials = Table("trial", "settings", "stages", title="trials", title_justify="left")
    for trial in chosen.trials:
        trials.add_row(str(trial.index), trial.title, " -> ".join(s.label for s in trial.stages()))
    console.print(trials)
    found = {stage.key: what for stage, what in integrity.damaged(store, chosen.stages())}
    stages = Table("stage", "key", "training steps", "state", title="stages, each run once", title_justify="left")
    for stage in chosen.stages():
        steps = str(stage.steps) if stage.kind in TRAINING else ""
        key = stage.key if stage.known else "unknown"
        state = "damaged" if stage.key in found else "done" if store.done(stage.key) else "to do"
        stages.add_row(plan.names[stage.key], key, steps, state)
    console.print(stages)
    for key, what in found.items():
        line = f"{plan.names[key]} {key}: {what}: a run sets it aside and makes it again, which is not in the estimate"
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    at_once = concurrent_trials(experiment, {"CPU": float(machine.cpus()), "GPU": cluster.count_gpus()})
    holders = 0 if experiment.cluster.gpus_per_worker else at_once * experiment.cluster.workers
    for line in forecast.in_words(forecast.forecast(chosen, store, at_once, copies), at_once, holders):
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def with_examples(plan: Plan) -> Plan:
    """A plan that grows with EXAMPLES points at least, for which more are drawn as if nothing were known."""
    while len(plan.expansion.points) < EXAMPLES and (more := plan.drawn([])) is not None:
        plan = more
    return plan
