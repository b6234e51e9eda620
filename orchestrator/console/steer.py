"""The options of `status` that ask something of a running sweep."""

import argparse
from collections.abc import Sequence

from orchestrator.fields.faults import ConfigError, Fault
from orchestrator.store import run_requests
from orchestrator.store.place import Place
from orchestrator.store.run_requests import CANCEL, PAUSE, PRIORITY, RESUME, Request
from orchestrator.sweeps.records import Records
from orchestrator.sweeps.state import is_paused
from orchestrator.sweeps.status import Status

DONE_SOON = "the run does so within seconds, and says it there"


def add_options(parser: argparse.ArgumentParser) -> None:
    """`--cancel`, `--priority`, `--pause` and `--resume`."""
    group = parser.add_argument_group("asking a running sweep, from any machine with its store")
    what = "end a trial, by its number in results.csv; its checkpoints stay; may be repeated"
    group.add_argument(
        f"--{CANCEL}", metavar="TRIAL", type=int, action="append", default=[], help=what
    )
    group.add_argument(
        f"--{PRIORITY}", metavar="TRIAL", type=int, help="start this trial before all others"
    )
    either = group.add_mutually_exclusive_group()
    what = "save and stop all training, and begin nothing until --resume"
    either.add_argument(f"--{PAUSE}", action="store_true", help=what)
    either.add_argument(f"--{RESUME}", action="store_true", help="continue after --pause")


def requests(args: argparse.Namespace) -> list[Request]:
    """What the options ask."""
    asked = [Request(CANCEL, trial) for trial in args.cancel]
    if args.priority is not None:
        asked.append(Request(PRIORITY, args.priority))
    if args.pause or args.resume:
        asked.append(Request(PAUSE if args.pause else RESUME))
    return asked


def send(records: Records, runs: Sequence[Place], asked: Sequence[Request]) -> list[str]:
    """Hand the requests to each of the sweep's `runs`, by their folders; returns what to print.
    Raises ConfigError, and asks nothing, where one of them cannot be carried out."""
    name = records.plan.name
    if not runs:
        what = "the sweep is not running: expected a running one"
        raise ConfigError([Fault(name, f"--{request.what}", what) for request in asked])
    paused = is_paused(runs)
    faults = []
    for request in asked:
        if problem := _problem(request, records, paused):
            faults.append(Fault(name, f"--{request.what}", problem))
    if faults:
        raise ConfigError(faults)
    for request in asked:
        for run in runs:
            try:
                run_requests.ask(run, request)
            except FileNotFoundError:
                what = "the sweep has ended meanwhile"
                raise ConfigError([Fault(name, f"--{request.what}", what)]) from None
    return [f"asked {name} to {_words(request)}: {DONE_SOON}" for request in asked]


def _problem(request: Request, records: Records, paused: bool) -> str:
    """Why `request` cannot be carried out; empty where it can."""
    if request.trial is None:
        if paused == (request.what == PAUSE):
            return f"the sweep is {'paused already' if paused else 'not paused'}"
        return ""
    count = len(records.endings)
    if not 0 <= request.trial < count:
        numbers = "0" if count == 1 else f"0 to {count - 1}"
        return f"got {request.trial}, expected the number of a trial, {numbers}"
    status = records.endings[request.trial].status
    if status != Status.WAITING:
        return f"got {request.trial}, expected a trial that is not over: it is {status}"
    return ""


def _words(request: Request) -> str:
    if request.what == PRIORITY:
        return f"start trial {request.trial} next"
    return request.what if request.trial is None else f"{request.what} trial {request.trial}"
