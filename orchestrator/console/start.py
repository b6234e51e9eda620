"""From an experiment to its finished run: all checks, then the run. The commands and the Python
functions both start here."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.cluster import connection, resources
from orchestrator.console import overrides
from orchestrator.host.invocation import COMMANDS, portable
from orchestrator.host.printed import short
from orchestrator.settings.experiment import Experiment
from orchestrator.sweeps.opening import check_storage, make_plan

if TYPE_CHECKING:
    from rich.console import Console

    from orchestrator.sweeps.records import Records
    from orchestrator.work.foreign_weights import Given


@dataclass(frozen=True)
class Request:
    """What is to be run: an `experiment`, up to `goal`, one of sweep, teacher, student, evaluation.

    `source`: its file, which messages name. `reload`: the experiment with other texts of `--set` in
    place of `sets`, which are in it already; `only`: the texts of `--only`. `address`: a Ray cluster;
    None: this machine. `resume_command`: what is printed after an interrupt."""

    experiment: Experiment
    source: str
    goal: str
    reload: overrides.Reload
    sets: Sequence[str] = ()
    only: Sequence[str] = ()
    address: str | None = None
    resume_command: str = ""


def start(
    request: Request,
    make_console: "Callable[[], Console]",
    dry_run: bool = False,
    as_json: bool = False,
) -> "tuple[int, Records]":
    """Check and run the plan of `request`; returns the exit status and the records. `dry_run`: print
    what would run, `as_json` or as tables, and run nothing. Raises ConfigError where it cannot run."""
    experiment, source = request.experiment, request.source
    if request.goal == "sweep":
        overrides.refuse_swept(experiment, request.reload, request.sets)
    check_storage(experiment, source)
    address = connection.address_of(request.address)
    notes: list[str] = []
    if address is None and not dry_run:
        notes = resources.check_this_machine(experiment, source)
    plan = make_plan(experiment, source, request.goal, dry=dry_run)
    only = overrides.selected_trials(plan, request.only)
    from orchestrator.cluster.nodes import examination
    from orchestrator.console import dry_run as dry
    from orchestrator.console import run
    from orchestrator.store.store import Store
    from orchestrator.sweeps.earlier import earlier_points
    from orchestrator.sweeps.records import Records
    from orchestrator.work import preflight

    console = make_console()
    if experiment.bases:
        notes.append(f"{source} builds on {', then on '.join(experiment.bases)}")
    notes += experiment.left_out
    if (command := experiment.tracking.on_end) is not None:
        notes.append(f"tracking.on_end: at its end a run hands this to the shell: {command}")
    notes += overrides.set_without_effect(plan, request.reload, request.sets)
    notes += overrides.only_without_effect(plan, request.only)
    for line in () if as_json else notes:
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    records = Records(plan, Store(experiment.storage))
    if request.resume_command:
        sets = [word for text in request.sets for word in ("--set", text)]
        records.started_by = portable(COMMANDS[request.goal], short(Path(source)), *sets)
    if experiment.sweep is not None and request.goal == "sweep":
        records.earlier = earlier_points(records, source)
    trials = plan.trials if only is None else plan.part(only).trials
    weights = preflight.before_start(trials, records.store, source, dry=dry_run)
    given: list[Given] = []
    if experiment.teacher.weights is not None:
        from orchestrator.work import foreign_weights

        given = foreign_weights.read(trials, records.store, source)
        for each in given:
            notes.append(each.note())
            if not as_json:
                console.print(notes[-1], markup=False, highlight=False, soft_wrap=True)
    if dry_run:
        to_fetch = preflight.left_to_fetch(weights)
        if as_json:
            dry.print_json(plan, only, [*notes, *to_fetch])
        else:
            dry.print_plan(plan, console, only, to_fetch)
        return 0, records
    if address is not None:
        connection.connect(address)
        resources.check_cluster(experiment, source)
        known = {trial.config.data: trial.facts.fingerprint for trial in plan.trials}
        examination.check_before_start(experiment, source, known, weights)
    for each in given:
        each.put(records.store)
    return run.run(records, address, console, only, request.resume_command), records
