"""`python -m orchestrator.report SWEEP`: the table, figures and report of a sweep again, from the
store."""

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


def main(argv: list[str] | None = None) -> int:
    """The command; returns the exit status."""
    what = "Make the table, figures and report of a sweep again, from what lies in the store."
    parser = argparse.ArgumentParser(prog="python -m orchestrator.report", description=what)
    parser.add_argument("sweep", metavar="SWEEP", type=argument_types.path, help=EXPECTED_SWEEP)
    command_line.add_storage(parser, "where names are looked up: a folder or s3://bucket/prefix")
    parser.add_argument(
        "--publish", action="store_true", help="also log to MLflow what is missing there"
    )
    args = parser.parse_args(argv)
    return command_line.guarded(
        lambda: _again(sweep_folder(args.sweep, command_line.storage(args)), args.publish)
    )


def _again(folder: Place, publish: bool) -> int:
    connection.quieten()
    console, records = command_line.make_console(), opening.records_of(folder)
    integrity.check(records.store, records.plan.stages())
    publisher = Publisher(records, partial(conclusion.print_line, console))
    if publish:
        publisher.attempt()  # before the report, which names the runs
    conclusion.write(records)
    if publish:
        publisher.finish(
            "FINISHED" if all(e.status == Status.DONE for e in records.endings) else "FAILED"
        )
    conclusion.print_conclusion(records, console, publisher.problem)
    if records.damaged:  # larger files, which the report draws from
        raise DamagedError(str(records.store.root), records.damaged)
    return 1 if publisher.problem else 0


if __name__ == "__main__":
    raise SystemExit(main())
