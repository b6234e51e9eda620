"""A run from its first line to its final table: the trials with Ray Tune, MLflow and the report."""

import traceback
from collections.abc import Container
from functools import partial

from rich.console import Console

from kaccore.files import CorruptFileError
from orchestrator.cluster import connection
from orchestrator.console import conclusion, on_end
from orchestrator.console.live_report import LiveReport
from orchestrator.console.live_view import View
from orchestrator.execution.trials import run_trials
from orchestrator.fields import plugins
from orchestrator.fields.faults import ConfigError
from orchestrator.store import integrity, layout
from orchestrator.store.failures import first_line
from orchestrator.store.run_folder import remove_stale
from orchestrator.store.store import with_remedy
from orchestrator.sweeps.feature_notes import own_features
from orchestrator.sweeps.records import Records
from orchestrator.sweeps.status import Status
from orchestrator.tracking.publisher import Publisher

DONE = 0
FAILED = 1
INTERRUPTED = 130
IN_WORDS = {DONE: on_end.DONE, FAILED: on_end.FAILED, INTERRUPTED: on_end.INTERRUPTED}


def run(
    records: Records,
    address: str | None,
    console: Console,
    only: Container[int] | None = None,
    resume_command: str = "",
) -> int:
    """Complete the plan of `records`, or its trials `only`, and return the exit status: 0 all done,
    1 some trial failed, 130 interrupted. `resume_command` is printed after an interrupt. At the end,
    `tracking.on_end` is run once."""
    with on_end.told_at_the_end(records, partial(conclusion.print_line, console)) as outcome:
        status = _run(records, address, console, only, resume_command)
        outcome.status = IN_WORDS[status]
    return status


def _run(
    records: Records,
    address: str | None,
    console: Console,
    only: Container[int] | None,
    resume_command: str,
) -> int:
    connection.prepare_environment(address)
    plan = records.plan if only is None else records.plan.part(only)
    for line in integrity.set_aside_damaged(records.store, list(plan.stages())):
        console.print(line, style="yellow", markup=False, highlight=False, soft_wrap=True)
    records.open()
    if only is not None:
        records.skip_all_but(only, "left out by --only")
    _print_introduction(records, console)
    publisher = Publisher(records, partial(conclusion.print_line, console))
    with publisher, View(records, console), LiveReport(records):
        status = _run_trials(records, address, publisher)
    if status == DONE and not all(e.status.well for e in records.endings):
        status = FAILED
    records.interrupt()
    _write(records)
    publisher.finish({DONE: "FINISHED", FAILED: "FAILED", INTERRUPTED: "KILLED"}[status])
    records.try_save()
    conclusion.print_conclusion(records, console, publisher.problem, publisher.experiment_id)
    if status == INTERRUPTED:
        conclusion.print_resume(records, console, resume_command)
    if status == DONE and (records.problem or records.damaged):
        return FAILED
    return status


def _run_trials(records: Records, address: str | None, publisher: Publisher) -> int:
    """Run the unfinished trials. Returns INTERRUPTED; FAILED where an error ended the whole run,
    which is recorded in every waiting trial; or DONE, even if single trials have failed."""
    try:
        with connection.sigterm_interrupts():
            if records.unfinished():
                run_trials(records, address, publisher.wake)
            else:
                remove_stale(records.store.root / layout.RAY)
    except KeyboardInterrupt:
        return INTERRUPTED
    except ConfigError:
        raise
    except Exception as e:
        endings = records.endings
        if endings and all(ending.status != Status.WAITING for ending in endings):
            return DONE  # every trial has an ending of its own
        records.fail_waiting(first_line(e))
        if not isinstance(e, OSError):
            traceback.print_exc()
        return FAILED
    return DONE


def _write(records: Records) -> None:
    try:
        conclusion.write(records)
    except OSError as e:
        records.problem = with_remedy(e)
    except CorruptFileError as e:
        records.problem = str(e)


def _print_introduction(records: Records, console: Console) -> None:
    plan = records.plan
    stages = list(plan.stages())
    done = sum(records.store.done(stage.key) for stage in stages)
    counts = f"{len(plan.trials)} trials, {len(stages)} stages, {done} already done"
    console.print(f"{plan.experiment.name} {plan.id}: {counts}", highlight=False)
    for plugin in plugins.all_loaded():
        conclusion.print_line(console, f"runs the code of the plugin {plugin}")
    conclusion.print_skipped(plan, console)
    if taken_up := ", ".join(map(str, records.taken_up)):
        what = "cancelled in the run before: this run takes them up again"
        conclusion.print_line(console, f"trials {taken_up}: {what}")
    data_notes = (note for info in plan.datasets() for note in info.notes)
    for note in dict.fromkeys([*data_notes, *own_features(plan, records.store)]):
        conclusion.print_line(console, note)
