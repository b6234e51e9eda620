"""`python -m orchestrator.status [SWEEP]`: the progress of sweeps, running or not, from any
terminal."""

import argparse
import time
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from orchestrator.console import argument_types, command_line, json_output
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

    from orchestrator.plan.plan import Plan
    from orchestrator.sweeps.records import Records

RUNNING = "running"
WATCH_SECONDS = 2.0


def parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    p = argparse.ArgumentParser(
        prog="python -m orchestrator.status",
        description="Show the progress of sweeps, running or not; runs are not disturbed.",
    )
    what = f"{EXPECTED_SWEEP}; without it a table of all sweeps"
    p.add_argument("sweep", metavar="SWEEP", type=argument_types.path, nargs="?", help=what)
    command_line.add_storage(p, "the store: a folder or s3://bucket/prefix")
    p.add_argument(
        "--watch",
        action="store_true",
        help="update it every two seconds until Ctrl-C, or until the sweep ends",
    )
    p.add_argument("--json", action="store_true", help="print it as JSON")
    return p


def main(argv: list[str] | None = None) -> int:
    """The command; returns the exit status."""
    p = parser()
    args = p.parse_args(argv)
    if args.json and args.watch:
        p.error("--json prints once: leave out --watch")
    return command_line.guarded(lambda: _show(args))


def _show(args: argparse.Namespace) -> int:
    from rich.live import Live

    from orchestrator.console.live_view import View
    from orchestrator.store import integrity, notices

    console, storage = command_line.make_console(), command_line.storage(args)
    if args.sweep is None:
        opening.check_store(storage)
        damaged: dict[str, str] = {}
        rows = list(_all(storage, damaged))
        if args.json:
            json_output.print_json({"sweeps": rows})
        else:
            console.print(_table(rows))
        if damaged:
            raise DamagedError(str(storage), damaged)
        return 0
    followed = Followed(sweep_folder(args.sweep, storage))
    if args.json:
        json_output.print_json(json_output.of_records(followed.records, _state(followed.records)))
        integrity.check(followed.records.store, followed.records.plan.stages())
        return 0
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
            view.records = followed.refresh()
            state = _state(view.records)
            live.update(view.table(state))
    integrity.check(followed.records.store, followed.records.plan.stages())
    return 0


class Followed:
    """The `records` of a sweep that another process may be running. `refresh` reads how its trials
    ended; it reads the plan again only if that was rewritten, and finished results never."""

    def __init__(self, folder: Place) -> None:
        self.folder = folder
        self._read_times, self._settled = self._times(), False
        self.records = opening.records_of(folder)

    def refresh(self) -> "Records":
        """The present records."""
        times = self._times()
        # a second write within the resolution of the file's time leaves the time unchanged: read
        # the files once more after a change
        if times == self._read_times and self._settled:
            self.records.reread(self.records)
        else:
            self._settled = times == self._read_times
            self._read_times = times
            self.records = opening.records_of(self.folder, self.records)
        return self.records

    def _times(self) -> list[float]:
        return [(self.folder / name).modified() for name in (layout.PLAN, layout.CONFIG)]


def _state(records: "Records", running_sweeps: set[str] | None = None) -> str:
    """Whether a sweep is running, has ended, or was left unfinished."""
    from orchestrator.sweeps.inventory import running

    if running_sweeps is None:
        running_sweeps = running(records.store.root)
    if f"{records.plan.experiment.name}/{records.plan.id}" in running_sweeps:
        return RUNNING
    return "not running" if records.unfinished() or records.interrupted() else "ended"


def _all(storage: Place, damaged: dict[str, str]) -> Iterator[dict[str, Any]]:
    """A row for each sweep, the latest first; damaged results that are found are added to
    `damaged`."""
    from orchestrator.sweeps.inventory import running
    from orchestrator.sweeps.ranking import best_so_far

    running_sweeps = running(storage)
    known: dict[Place, Records] = {}
    unreadable: dict[Place, ConfigError] = {}
    plans = (storage / layout.SWEEPS).find(layout.ANY_PLAN)
    times = {plan.parent: last_run(plan) for plan in plans}
    folders = sorted(times, key=lambda folder: -times[folder])
    for folder in folders:
        try:
            known[folder] = opening.records_of(folder)
        except ConfigError as e:
            unreadable[folder] = e
    differing = _differing([records.plan for records in known.values()])
    for folder in folders:
        named: dict[str, Any] = {
            "sweep": f"{folder.parent.name}/{folder.name}",
            "begun": times[folder],
        }
        if folder in unreadable:
            what = str(unreadable[folder].faults[0].message)
            yield {**named, "state": "cannot be read", "best": what}
            continue
        records = known[folder]
        statuses = [ending.status for ending in records.endings]
        yield {
            **named,
            "state": _state(records, running_sweeps),
            "trials": len(statuses),
            "done": statuses.count(Status.DONE),
            "failed": statuses.count(Status.FAILED),
            "best": "; ".join(best_so_far(records).values()),
            "differs": differing[named["sweep"]],
        }
        damaged |= records.damaged


def _differing(plans: list["Plan"]) -> dict[str, dict[str, Any]]:
    """For each sweep, as name/id, the settings that differ between the sweeps of its name."""
    from orchestrator.sweeps.differences import differences

    by_name: dict[str, dict[str, Plan]] = {}
    for plan in plans:
        by_name.setdefault(plan.experiment.name, {})[f"{plan.experiment.name}/{plan.id}"] = plan
    return {key: own for same in by_name.values() for key, own in differences(same).items()}


def _table(rows: Iterable[dict[str, Any]]) -> "Table":
    from rich.markup import escape
    from rich.table import Table

    from orchestrator.sweeps.differences import line
    from orchestrator.sweeps.inventory import age_text

    rows = list(rows)
    differing = [line(row.get("differs", {})) for row in rows]
    names = ["sweep", "state", "trials", "done", "failed", "best", "begun"]
    table = Table(*names, *(["differs in"] if any(differing) else []))
    for row, text in zip(rows, differing, strict=True):
        began = age_text(time.time() - row["begun"]) + " ago"
        counts = (str(row.get(name, "")) for name in ("trials", "done", "failed"))
        last = [escape(text)] if any(differing) else []
        table.add_row(row["sweep"], row["state"], *counts, row["best"], began, *last)
    return table


if __name__ == "__main__":
    raise SystemExit(main())
