"""`python -m orchestrator.status [SWEEP]`: how far sweeps are, running or not, from any
terminal."""

import argparse
import time
from typing import TYPE_CHECKING

from orchestrator.console import argument_types, command_line
from orchestrator.fields.faults import ConfigError
from orchestrator.networks.locate import EXPECTED_SWEEP, sweep_folder
from orchestrator.store import layout
from orchestrator.store.last_run import last_run
from orchestrator.store.place import Place
from orchestrator.store.stage_result import DamagedError
from orchestrator.sweeps import opening
from orchestrator.sweeps.status import Status

if TYPE_CHECKING:
    from rich.table import Table

    from orchestrator.sweeps.records import Records

RUNNING = "running"
WATCH_SECONDS = 2.0


def parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    p = argparse.ArgumentParser(
        prog="python -m orchestrator.status",
        description="How far sweeps are, running or not; nothing is disturbed.",
    )
    what = f"{EXPECTED_SWEEP}; without it a table of all sweeps"
    p.add_argument("sweep", metavar="SWEEP", type=argument_types.path, nargs="?", help=what)
    command_line.add_storage(p, "the store: a folder or s3://bucket/prefix")
    p.add_argument(
        "--watch",
        action="store_true",
        help="show it anew every two seconds until Ctrl-C, or until it ends",
    )
    return p


def main(argv: list[str] | None = None) -> int:
    """The command; returns the exit status."""
    args = parser().parse_args(argv)
    return command_line.guarded(lambda: _show(args))


def _show(args: argparse.Namespace) -> int:
    from rich.live import Live

    from orchestrator.console.live_view import View
    from orchestrator.store import integrity, notices

    console, storage = command_line.make_console(), command_line.storage(args)
    if args.sweep is None:
        opening.check_store(storage)
        damaged: dict[str, str] = {}
        console.print(_all(storage, damaged))
        if damaged:
            raise DamagedError(str(storage), damaged)
        return 0
    followed = Followed(sweep_folder(args.sweep, storage))
    view = View(followed.records, console, ours=False)
    state = _state(followed.records)
    if not args.watch:
        console.print(view.table(state))
        for line in notices.lines(notices.of_plan(view.records.plan, view.records.store.root)):
            console.print(line, markup=False, highlight=False, soft_wrap=True)
        integrity.check(followed.records.store, followed.records.plan.stages())
        return 0
    with Live(view.table(state), console=console, refresh_per_second=1) as live:
        while state == RUNNING:
            time.sleep(WATCH_SECONDS)
            view.records = followed.look()
            state = _state(view.records)
            live.update(view.table(state))
    integrity.check(followed.records.store, followed.records.plan.stages())
    return 0


class Followed:
    """The `records` of a sweep that somebody else may be running. A look reads how its trials
    ended; what was planned, which grows where trials are drawn, only where it was written anew;
    what is finished is never asked for again."""

    def __init__(self, folder: Place) -> None:
        self.folder = folder
        self._read, self._sure = self._written(), False
        self.records = opening.records_of(folder)

    def look(self) -> "Records":
        """The records as they are now."""
        written = self._written()
        # what was written within the resolution of the time of a file was perhaps not read yet:
        # once more
        if written == self._read and self._sure:
            self.records.reread(self.records)
        else:
            self._sure = written == self._read
            self._read = written
            self.records = opening.records_of(self.folder, self.records)
        return self.records

    def _written(self) -> list[float]:
        return [(self.folder / name).modified() for name in (layout.PLAN, layout.CONFIG)]


def _state(records: "Records", under_way: set[str] | None = None) -> str:
    """Whether a sweep is being run (`under_way`: those that are), is over, or was left
    unfinished."""
    from orchestrator.sweeps.inventory import running

    under_way = running(records.store.root) if under_way is None else under_way
    if f"{records.plan.experiment.name}/{records.plan.id}" in under_way:
        return RUNNING
    return "not running" if records.unfinished() or records.interrupted() else "ended"


def _all(storage: Place, damaged: dict[str, str]) -> "Table":
    """A line for each sweep; what is found to be damaged on the way is added to `damaged`."""
    from rich.table import Table

    from orchestrator.sweeps.inventory import age_text, running
    from orchestrator.sweeps.ranking import best_so_far

    under_way = running(storage)
    table = Table("sweep", "state", "trials", "done", "failed", "best", "begun")
    times = {
        planned: last_run(planned) for planned in (storage / layout.SWEEPS).find(layout.ANY_PLAN)
    }
    for planned in sorted(times, key=lambda plan: -times[plan]):
        name = f"{planned.parent.parent.name}/{planned.parent.name}"
        began = age_text(time.time() - times[planned]) + " ago"
        try:
            records = opening.records_of(planned.parent)
        except ConfigError as e:
            table.add_row(name, "cannot be read", "", "", "", str(e.faults[0].message), began)
            continue
        done, failed = (
            sum(e.status == which for e in records.endings)
            for which in (Status.DONE, Status.FAILED)
        )
        state = _state(records, under_way)
        best = "; ".join(best_so_far(records).values())
        table.add_row(name, state, str(len(records.endings)), str(done), str(failed), best, began)
        damaged |= records.damaged
    return table


if __name__ == "__main__":
    raise SystemExit(main())
