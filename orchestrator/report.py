"""`python -m orchestrator.report SWEEP`: write the table, figures and report of a sweep again, from
the store. `report SWEEP SWEEP ...`: several sweeps on one page."""

import argparse
from collections import Counter
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from kaccore.files import write_bytes
from orchestrator.cluster import connection
from orchestrator.console import argument_types, command_line, conclusion, output_file
from orchestrator.fields.faults import ConfigError, Fault
from orchestrator.networks.locate import EXPECTED_SWEEP, sweep_folder
from orchestrator.store import integrity
from orchestrator.store.place import Place
from orchestrator.store.stage_result import DamagedError
from orchestrator.sweeps import opening
from orchestrator.sweeps.status import Status
from orchestrator.tracking.publisher import Publisher

COMPARISON = "comparison.html"


def parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    what = "Write the table, figures and report of a sweep again, from the results in the store; with several sweeps "
    what += "write one page that compares them."
    p = command_line.make_parser("report", what)
    p.add_argument(
        "sweeps", metavar="SWEEP", nargs="+", type=argument_types.path, help=EXPECTED_SWEEP
    )
    command_line.add_storage(p, "the store of names: a folder or s3://bucket/prefix")
    p.add_argument(
        "--publish", action="store_true", help="also log to MLflow what is missing there"
    )
    p.add_argument(
        "--out",
        metavar="FILE",
        type=argument_types.path,
        help=f"the page of several sweeps (default: {COMPARISON})",
    )
    return p


def main(argv: list[str] | None = None) -> int:
    """The command; returns the exit status."""
    p = parser()
    args = p.parse_args(argv)
    if len(args.sweeps) == 1 and args.out is not None:
        p.error("--out is for several sweeps: the report of one is in its folder")
    if len(args.sweeps) > 1 and args.publish:
        p.error("--publish is for one sweep: run it for each")

    def run() -> int:
        storage = command_line.storage(args)
        folders = [sweep_folder(sweep, storage) for sweep in args.sweeps]
        if len(folders) == 1:
            return _write(folders[0], args.publish)
        return _compare(folders, args.out or COMPARISON)

    return command_line.guarded(run)


def _write(folder: Place, publish: bool) -> int:
    connection.prepare_environment()
    console, records = command_line.make_console(), opening.records_of(folder)
    integrity.check(records.store, records.plan.stages())
    publisher = Publisher(records, partial(conclusion.print_line, console))
    if publish:
        publisher.attempt()  # before the report, which has the ids of the runs
    conclusion.write(records)
    if publish:
        done = all(ending.status == Status.DONE for ending in records.endings)
        publisher.finish("FINISHED" if done else "FAILED")
    conclusion.print_conclusion(records, console, publisher.problem, publisher.experiment_id)
    if records.damaged:  # found in larger files, which the check skips and the report reads
        raise DamagedError(str(records.store.root), records.damaged)
    return 1 if publisher.problem else 0


def _compare(folders: Sequence[Place], out: str) -> int:
    """Write one page of several sweeps, and print their verdicts."""
    from orchestrator.reports.comparison import comparison, titles

    connection.prepare_environment()
    repeated = [str(folder) for folder, count in Counter(folders).items() if count > 1]
    faults = [
        Fault("SWEEP", "", f"got {folder} more than once, expected different sweeps")
        for folder in repeated
    ]
    faults += output_file.faults(Path(out))
    if faults:
        raise ConfigError(faults)
    console = command_line.make_console()
    sweeps = [opening.records_of(folder) for folder in folders]
    for records in sweeps:
        integrity.check(records.store, records.plan.stages())
    write_bytes(Path(out), comparison(sweeps).encode())
    for records, name in zip(sweeps, titles(sweeps), strict=True):
        conclusion.print_line(console, name)
        conclusion.print_verdicts(records, console)
    conclusion.print_line(console, f"comparison {out}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
