"""`python -m orchestrator.status [SWEEP]`: the progress of sweeps, running or not, from any
terminal, and requests to running ones."""

import argparse
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from orchestrator.console import argument_types, command_line, json_output, steer
from orchestrator.fields.faults import ConfigError, Fault
from orchestrator.networks.locate import EXPECTED_SWEEP, sweep_folder
from orchestrator.store import layout
from orchestrator.store.last_run import last_run
from orchestrator.store.place import Place
from orchestrator.store.run_requests import Request
from orchestrator.store.stage_result import DamagedError
from orchestrator.sweeps import opening
from orchestrator.sweeps.state import state_of
from orchestrator.sweeps.status import State, Status

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from orchestrator.plan.plan import Plan
    from orchestrator.sweeps.records import Records

WATCH_SECONDS = 2.0


def parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    p = command_line.make_parser(
        "status",
        "Show the progress of sweeps, running or not, without disturbing them; or ask something of a "
        "running one.",
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
    what = "print where the report is, and open it in a browser; while the sweep runs it is renewed"
    p.add_argument("--open", action="store_true", help=what)
    steer.add_options(p)
    return p


def main(argv: list[str] | None = None) -> int:
    """The command; returns the exit status."""
    p = parser()
    args = p.parse_args(argv)
    if args.json and args.watch:
        p.error("--json prints once: leave out --watch")
    asked = steer.requests(args)
    if asked and (args.sweep is None or args.json or args.watch):
        p.error(f"--{asked[0].what} takes SWEEP, and neither --json nor --watch")
    if args.open and (args.sweep is None or args.json or args.watch or asked):
        p.error("--open takes SWEEP, and no other option but --storage")
    if args.open:
        return command_line.guarded(lambda: _open(args))
    return command_line.guarded(lambda: _ask(args, asked) if asked else _show(args))


def _open(args: argparse.Namespace) -> int:
    """Open the report, on S3 a copy of it, in a browser."""
    import webbrowser

    folder = sweep_folder(args.sweep, command_line.storage(args)).absolute()
    report = folder / layout.REPORT
    if not report.exists():
        what = f"has no {layout.REPORT} yet: it is written when a first stage is finished"
        raise ConfigError([Fault(str(folder), "--open", what)])
    print(report)
    if not webbrowser.open(report.local(refresh=True).absolute().as_uri()):
        print("no browser was found on this machine: open it by hand")
    return 0


def _ask(args: argparse.Namespace, asked: Sequence[Request]) -> int:
    from orchestrator.sweeps.inventory import running

    records = opening.records_of(sweep_folder(args.sweep, command_line.storage(args)))
    runs = running(records.store.root, records.plan.name).get(records.plan.name, [])
    for line in steer.send(records, runs, asked):
        print(line)
    return 0


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
            _print_jobs(storage, console)
        if damaged:
            raise DamagedError(str(storage), damaged)
        return 0
    try:
        followed = Followed(sweep_folder(args.sweep, storage))
    except ConfigError:
        if args.json or not _print_jobs(storage, console, args.sweep):
            raise
        return 0  # its job has not begun yet
    if args.json:
        state = followed.state()
        json_output.print_json(json_output.of_records(followed.records, state))
        integrity.check(followed.records.store, followed.records.plan.stages())
        return 0
    state = followed.state()
    view = View(followed.records, console, ours=False)
    if not args.watch:
        console.print(view.table(state))
        _print_jobs(view.records.store.root, console, view.records.plan.name)
        for line in notices.lines(notices.of_plan(view.records.plan, view.records.store.root)):
            console.print(line, markup=False, highlight=False, soft_wrap=True)
        integrity.check(followed.records.store, followed.records.plan.stages())
        return 0
    with Live(view.table(state), console=console, refresh_per_second=1) as live:
        while state in (State.RUNNING, State.PAUSED):
            time.sleep(WATCH_SECONDS)
            state = followed.state()
            view.records = followed.records
            live.update(view.table(state))
    integrity.check(followed.records.store, followed.records.plan.stages())
    return 0


def _print_jobs(root: Place, console: "Console", sweep: str | None = None) -> bool:
    """Print the jobs of Slurm that run the sweeps of a store, or `sweep`; whether there are some."""
    from orchestrator.cluster.slurm import jobs

    lines = list(jobs.lines(root, sweep))
    for line in lines:
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    return bool(lines)


class Followed:
    """The `records` of a sweep that another process may be running. `refresh`, and with it `state`,
    reads how its trials ended; it reads the plan again only if that was rewritten, and finished results never."""

    def __init__(self, folder: Place) -> None:
        self.folder = folder
        self._read_times, self._settled = self._times(), False
        self.records = opening.records_of(folder)

    def state(self) -> State:
        """The present state, and the records of that moment or later."""
        from orchestrator.sweeps.inventory import running

        running_sweeps = running(self.records.store.root, self.records.plan.name)
        return state_of(self.refresh(), running_sweeps)

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
            "state": state_of(records, running_sweeps),
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
        by_name.setdefault(plan.experiment.name, {})[plan.name] = plan
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
