"""`python -m orchestrator.report SWEEP`: write the table, figures and report of a sweep again, from
the store."""

import argparse
from functools import partial

from orchestrator.cluster import connection
from orchestrator.console import argument_types, command_line, conclusion
from orchestrator.networks.locate import EXPECTED_SWEEP, sweep_folder
from orchestrator.store import integrity
from orchestrator.store.place import Place
from orchestrator.store.stage_result import DamagedError
from orchestrator.sweeps import opening
from orchestrator.sweeps.status import Status
from orchestrator.tracking.publisher import Publisher


def parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    what = "Write the table, figures and report of a sweep again, from the results in the store."
    p = command_line.make_parser("report", what)
    p.add_argument("sweep", metavar="SWEEP", type=argument_types.path, help=EXPECTED_SWEEP)
    command_line.add_storage(p, "the store of names: a folder or s3://bucket/prefix")
    p.add_argument(
        "--publish", action="store_true", help="also log to MLflow what is missing there"
    )
    return p


def main(argv: list[str] | None = None) -> int:
    """The command; returns the exit status."""
    args = parser().parse_args(argv)
    return command_line.guarded(
        lambda: _write(sweep_folder(args.sweep, command_line.storage(args)), args.publish)
    )


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
    conclusion.print_conclusion(records, console, publisher.problem)
    if records.damaged:  # found in larger files, which the check skips and the report reads
        raise DamagedError(str(records.store.root), records.damaged)
    return 1 if publisher.problem else 0


if __name__ == "__main__":
    raise SystemExit(main())
