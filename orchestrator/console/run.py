"""A run from its first line to its table: trials through Ray Tune, MLflow and the report kept up
beside them."""

import traceback
from collections.abc import Container
from dataclasses import replace
from functools import partial

from rich.console import Console

from kaccore.files import CorruptFileError
from orchestrator.cluster import connection
from orchestrator.console import conclusion
from orchestrator.console.live_view import View
from orchestrator.execution.trials import run_trials
from orchestrator.settings.faults import ConfigError
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


def run(
    records: Records,
    address: str | None,
    console: Console,
    only: Container[int] | None = None,
    again: str = "",
) -> int:
    """Complete the plan of `records`, or the trials `only` of it, and return the exit status: 0 all
    done, 1 some trial failed, 130 interrupted. `again` is the command line that goes on with an
    interrupted run."""
    connection.quieten(address)
    plan = records.plan if only is None else records.plan.part(only)
    for line in integrity.set_aside_damaged(records.store, list(plan.stages())):
        console.print(line, style="yellow", markup=False, highlight=False, soft_wrap=True)
    records.open()
    if only is not None:
        records.skip_all_but(only, "left out by --only")
    _introduce(records, console)
    with Publisher(records, partial(conclusion.say, console)) as publisher, View(records, console):
        status = _attempt(records, address, publisher)
    if status == DONE and not all(e.status.well for e in records.endings):
        status = FAILED
    records.interrupt()
    _write(records)
    publisher.finish({DONE: "FINISHED", FAILED: "FAILED", INTERRUPTED: "KILLED"}[status])
    records.try_save()
    conclusion.conclude(records, console, publisher.problem)
    if status == INTERRUPTED:
        conclusion.print_again(records, console, again)
    return FAILED if (records.problem or records.damaged) and status == DONE else status


def _attempt(records: Records, address: str | None, publisher: Publisher) -> int:
    """Run what is not done: INTERRUPTED, FAILED where something ended the whole run, which is noted
    in every open trial, or DONE, whatever became of single trials."""
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
        unexplained = [ending for ending in records.endings if ending.status == Status.WAITING]
        why = first_line(e)
        records.update_all(
            lambda _, e: (
                replace(e, status=Status.FAILED, error=why) if e.status == Status.WAITING else e
            )
        )
        if (unexplained or not records.endings) and not isinstance(e, OSError):
            traceback.print_exc()
        return FAILED if unexplained or not records.endings else DONE
    return DONE


def _write(records: Records) -> None:
    try:
        conclusion.write(records)
    except OSError as e:
        records.problem = with_remedy(e)
    except CorruptFileError as e:
        records.problem = str(e)


def _introduce(records: Records, console: Console) -> None:
    plan = records.plan
    stages = list(plan.stages())
    there = sum(records.store.done(s.key) for s in stages)
    console.print(
        f"{plan.experiment.name} {plan.id}: {len(plan.trials)} trials, {len(stages)} stages, {there} already done",
        highlight=False,
    )
    conclusion.print_skipped(plan, console)
    about = (note for info in plan.datasets() for note in info.notes)
    for note in dict.fromkeys([*about, *own_features(plan, records.store)]):
        console.print(note, markup=False, highlight=False, soft_wrap=True)
