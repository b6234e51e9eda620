"""What a dry run prints: trials, stages, and an estimate of the time and memory."""

from collections.abc import Container, Iterable, Mapping
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from orchestrator.cluster import resources
from orchestrator.console import conclusion, json_output
from orchestrator.execution.trials import concurrent_trials
from orchestrator.fields import plugins
from orchestrator.host import machine
from orchestrator.plan.plan import Plan
from orchestrator.store import integrity
from orchestrator.store.store import Store
from orchestrator.sweeps.feature_notes import own_features

if TYPE_CHECKING:
    from orchestrator.work.forecast import Forecast

EXAMPLES = 3  # the minimum number of points of a sweep by optuna that a dry run shows


def print_plan(
    plan: Plan, console: Console, only: Container[int] | None = None, notes: Iterable[str] = ()
) -> None:
    """Print the trials, or those of `only`, their stages, which of them the store has, the
    estimate of the others, and `notes`."""
    store, experiment = Store(plan.experiment.storage), plan.experiment
    console.print(f"{experiment.name} {plan.id}: {len(plan.trials)} trials", highlight=False)
    for plugin in plugins.all_loaded():
        conclusion.print_line(console, f"runs the code of the plugin {plugin}")
    for note in _all_notes(plan, store, notes):
        conclusion.print_line(console, note)
    part, copies = plan if only is None else plan.part(only), 1.0
    if plan.grows and experiment.sweep is not None and experiment.sweep.num_trials is not None:
        planned, total = len(plan.expansion.points), experiment.sweep.num_trials
        what = f"{planned} of {total} points are chosen"
        console.print(f"{what}; the others follow as trials end", highlight=False)
        plan = part = with_examples(plan)
        copies = total / len(plan.expansion.points)
        if examples := len(plan.expansion.points) - planned:
            what = f"the last {examples} points below are examples of what may be chosen"
            console.print(what, highlight=False)
    conclusion.print_skipped(plan, console)
    _print_trials(part, console)
    _print_stages(part, plan.names, store, console)
    _print_estimate(part, store, console, copies)


def _print_trials(plan: Plan, console: Console) -> None:
    table = Table("trial", "settings", "stages", title="trials", title_justify="left")
    for trial in plan.trials:
        labels = " -> ".join(stage.label for stage in trial.stages())
        table.add_row(str(trial.index), trial.title, labels)
    console.print(table)


def _print_stages(plan: Plan, names: Mapping[str, str], store: Store, console: Console) -> None:
    damaged = {stage.key: what for stage, what in integrity.find_damaged(store, plan.stages())}
    columns = ("stage", "key", "training steps", "state")
    table = Table(*columns, title="stages, each run once", title_justify="left")
    for stage in plan.stages():
        row = json_output.stage_row(stage, names, store, damaged)
        steps = "" if row["training_steps"] is None else str(row["training_steps"])
        table.add_row(row["name"], row["key"] or "unknown", steps, row["state"])
    console.print(table)
    for key, what in damaged.items():
        effect = "a run sets it aside and computes it again, which the estimate does not include"
        conclusion.print_line(console, f"{names[key]} {key}: {what}: {effect}")


def _print_estimate(plan: Plan, store: Store, console: Console, copies: float) -> None:
    """`copies`: how many times as many trials the sweep will have."""
    from orchestrator.work import forecast

    estimate, concurrent, workers = _estimate(plan, store, copies)
    for line in forecast.in_words(estimate, concurrent, workers):
        conclusion.print_line(console, line)


def _estimate(plan: Plan, store: Store, copies: float) -> "tuple[Forecast, int, int]":
    """The estimate, how many trials run at once, and how many workers share the CPUs."""
    from orchestrator.work import forecast

    experiment = plan.experiment
    available = {"CPU": float(machine.cpus()), "GPU": resources.count_gpus()}
    concurrent = concurrent_trials(experiment, available)
    cluster = experiment.cluster
    fit = int(available["CPU"] / cluster.cpus_per_worker)
    least, most = concurrent * cluster.min_workers, concurrent * cluster.max_workers
    workers = 0 if cluster.gpus_per_worker else min(most, max(least, fit))
    return forecast.forecast(plan, store, concurrent, copies), concurrent, workers


def print_json(plan: Plan, only: Container[int] | None, notes: Iterable[str]) -> None:
    """Print what `print_plan` prints as JSON; of a sweep whose points are chosen while it runs, the
    trials that are chosen already."""
    store = Store(plan.experiment.storage)
    part = plan if only is None else plan.part(only)
    estimate, _, _ = _estimate(part, store, 1.0)
    said = _all_notes(plan, store, notes)
    json_output.print_json(json_output.of_plan(plan, part, store, estimate, said))


def _all_notes(plan: Plan, store: Store, notes: Iterable[str]) -> list[str]:
    """The notes about data and features, and `notes`, each once."""
    data_notes = [note for info in plan.datasets() for note in info.notes]
    return list(dict.fromkeys([*data_notes, *own_features(plan, store), *notes]))


def with_examples(plan: Plan) -> Plan:
    """A plan that grows, with at least EXAMPLES points: further ones are chosen without any
    result."""
    while len(plan.expansion.points) < EXAMPLES:
        larger = plan.drawn([])
        if larger is None:
            break
        plan = larger
    return plan
