"""What a dry run prints: trials, stages, and what the rest will take."""

from collections.abc import Container, Iterable

from rich.console import Console
from rich.table import Table

from orchestrator.cluster import resources
from orchestrator.console import conclusion
from orchestrator.execution.trials import concurrent_trials
from orchestrator.host import machine
from orchestrator.plan.plan import Plan
from orchestrator.plan.stage import TRAINING
from orchestrator.store import integrity
from orchestrator.store.store import Store
from orchestrator.sweeps.feature_notes import own_features

EXAMPLES = 3  # points of a sweep by optuna that a dry run shows


def print_plan(
    plan: Plan, console: Console, only: Container[int] | None = None, notes: Iterable[str] = ()
) -> None:
    """The dry run: trials, stages, which of them the store has, what the rest will take, and
    `notes`."""
    from orchestrator.work import forecast

    store, experiment = Store(plan.experiment.storage), plan.experiment
    console.print(f"{experiment.name} {plan.id}: {len(plan.trials)} trials", highlight=False)
    about = [
        *(note for info in plan.datasets() for note in info.notes),
        *own_features(plan, store),
        *notes,
    ]
    for note in dict.fromkeys(about):
        console.print(note, markup=False, highlight=False, soft_wrap=True)
    chosen, copies = plan if only is None else plan.part(only), 1.0
    if plan.grows and experiment.sweep is not None and experiment.sweep.num_trials is not None:
        wanted = experiment.sweep.num_trials
        drawn = len(plan.expansion.points)
        console.print(
            f"{drawn} of {wanted} points are drawn; the others will be while these end",
            highlight=False,
        )
        plan = chosen = with_examples(plan)
        copies = wanted / len(plan.expansion.points)
        if examples := len(plan.expansion.points) - drawn:
            console.print(
                f"the last {examples} points below are examples of what may be drawn",
                highlight=False,
            )
    conclusion.print_skipped(plan, console)
    trials = Table("trial", "settings", "stages", title="trials", title_justify="left")
    for trial in chosen.trials:
        trials.add_row(str(trial.index), trial.title, " -> ".join(s.label for s in trial.stages()))
    console.print(trials)
    found = {stage.key: what for stage, what in integrity.find_damaged(store, chosen.stages())}
    stages = Table(
        "stage",
        "key",
        "training steps",
        "state",
        title="stages, each run once",
        title_justify="left",
    )
    for stage in chosen.stages():
        steps = str(stage.steps) if stage.kind in TRAINING else ""
        key = stage.key if stage.known else "unknown"
        state = "damaged" if stage.key in found else "done" if store.done(stage.key) else "to do"
        stages.add_row(plan.names[stage.key], key, steps, state)
    console.print(stages)
    for key, what in found.items():
        line = f"{plan.names[key]} {key}: {what}: a run sets it aside and makes it again, which is not in the estimate"
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    at_once = concurrent_trials(
        experiment, {"CPU": float(machine.cpus()), "GPU": resources.count_gpus()}
    )
    holders = 0 if experiment.cluster.gpus_per_worker else at_once * experiment.cluster.workers
    for line in forecast.in_words(
        forecast.forecast(chosen, store, at_once, copies), at_once, holders
    ):
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def with_examples(plan: Plan) -> Plan:
    """A plan that grows with EXAMPLES points at least, for which more are drawn as if nothing were
    known."""
    while len(plan.expansion.points) < EXAMPLES and (more := plan.drawn([])) is not None:
        plan = more
    return plan
