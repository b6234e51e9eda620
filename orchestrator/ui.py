"""`python -m orchestrator.ui`: the MLflow UI of a store's own database, on a port of this
machine."""

import argparse
import os
import socket
import sys
from collections.abc import Iterator
from typing import Any

from orchestrator.console import command_line
from orchestrator.fields.faults import ConfigError, Fault
from orchestrator.host.printed import command, short
from orchestrator.store import layout
from orchestrator.store.folder import Folder
from orchestrator.store.last_run import last_run
from orchestrator.sweeps import opening
from orchestrator.tracking.hints import HOST, PORT
from orchestrator.tracking.runs import truncated
from orchestrator.tracking.shared_copy import fetch
from orchestrator.tracking.uri import artifacts, embedded
from orchestrator.tracking.views import views

LATEST = 3  # sweeps whose pages are named at the start
COMMAND = 200  # the maximum length of another process's command in a message, in characters


def parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    p = command_line.make_parser(
        "ui",
        f"Open the MLflow UI on a store's own database, on http://{HOST}:{PORT}; Ctrl-C ends it. "
        "It upgrades tables of an older MLflow, and corrects the paths of artifacts in a store that was moved.",
    )
    command_line.add_storage(p, "the store: a folder")
    p.add_argument("--port", type=int, default=PORT, help=f"port of this machine (default {PORT})")
    return p


def main(argv: list[str] | None = None) -> int:
    """The command; returns the exit status."""
    args = parser().parse_args(argv)
    return command_line.guarded(lambda: _open(args))


def _open(args: argparse.Namespace) -> int:
    root = opening.parse_place(args.storage or opening.STORAGE, "--storage")
    if not isinstance(root, Folder):
        what = f"got {root}, which has no MLflow of its own: open its tracking.uri"
        raise ConfigError([Fault("--storage", "", what)])
    if not 1 <= args.port <= 65535:
        raise ConfigError([Fault("--port", "", f"got {args.port}, expected 1 to 65535")])
    database = embedded(root)
    copied = fetch(root, database)
    if not database.file.exists():  # MLflow would create an empty one
        what = f"got {root}, but {short(database.file)} does not exist"
        publish = command("report", "SWEEP_DIR", "--publish")
        remedy = f"run a sweep first, or publish one that has run: {publish}"
        raise ConfigError([Fault("--storage", "", f"{what}: {remedy}")])
    if process := listener(args.port):
        what = f"got {args.port}, which {process} uses: end it, or give another port"
        raise ConfigError([Fault("--port", "", what)])
    from orchestrator.tracking.client import quieten
    from orchestrator.tracking.database import create_or_upgrade, relocate_artifacts

    quieten()
    if copied:
        print(copied)
    changes = create_or_upgrade(database.file)
    for line in (*changes, *relocate_artifacts(database.file, artifacts(None, root))):
        print(line)
    for line in _links(root, database.uri, f"http://{HOST}:{args.port}"):
        print(line)
    sys.stdout.flush()
    address = ["--host", HOST, "--port", str(args.port)]
    words = ["-m", "mlflow", "ui", *address, "--backend-store-uri", database.uri]
    os.execv(sys.executable, [sys.executable, *words])


def _links(root: Folder, uri: str, address: str) -> Iterator[str]:
    """For each of the LATEST sweeps of the store that this database has, the page of its trials, best
    first."""
    from mlflow import MlflowClient

    client, count = MlflowClient(tracking_uri=uri), 0
    plans = (root / layout.SWEEPS).find(layout.ANY_PLAN)
    for plan in sorted(plans, key=last_run, reverse=True):
        experiment = client.get_experiment_by_name(plan.parent.parent.name)
        query = f"tags.kind = 'sweep' and tags.sweep_id = '{plan.parent.name}'"
        if experiment is None or not client.search_runs([experiment.experiment_id], query):
            continue
        try:
            records = opening.records_of(plan.parent)
        except ConfigError:  # of another version, say; MLflow shows what it has of it all the same
            continue
        if records.plan.goal == "sweep":
            name = f"{plan.parent.parent.name}/{plan.parent.name}"
            page = f"{address}/#/experiments/{experiment.experiment_id}"
            for view in views(records):
                yield f"open {name}: {view.link(page, view.tag in experiment.tags)}"
            count += 1
        if count == LATEST:
            return


def listener(port: int) -> str:
    """The process that listens on `port` of this machine, for a message; empty where the port is
    free."""
    with socket.socket() as attempt:
        # a port that was just closed counts as free
        attempt.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            attempt.bind((HOST, port))
        except PermissionError as e:
            what = f"got {port}: {e.strerror}; give one above 1023"
            raise ConfigError([Fault("--port", "", what)]) from None
        except OSError:
            return _listening_process(port)
    return ""


def _listening_process(port: int) -> str:
    import psutil

    def listening(connections: list[Any]) -> list[Any]:
        return [
            connection
            for connection in connections
            if connection.status == psutil.CONN_LISTEN
            and connection.laddr
            and connection.laddr.port == port
        ]

    try:
        pids = (connection.pid for connection in listening(psutil.net_connections("tcp")))
        process = psutil.Process(next(pid for pid in pids if pid))
        while (parent := process.parent()) is not None and listening(parent.net_connections("tcp")):
            process = parent  # a server's workers inherit the port from it
        text = " ".join(process.cmdline()) or process.name()
        return f"process {process.pid} ({truncated(text, COMMAND)})"
    except (psutil.Error, StopIteration, OSError):
        return "a process of another user, or of another container,"


if __name__ == "__main__":
    raise SystemExit(main())
