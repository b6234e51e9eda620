"""`python -m orchestrator.ui`: the MLflow UI on what a store has logged, on a port of this
machine."""

import argparse
import os
import socket
import sys
from typing import Any

from orchestrator.console import command_line
from orchestrator.fields.faults import ConfigError, Fault
from orchestrator.host.printed import command, short
from orchestrator.store.folder import Folder
from orchestrator.sweeps import opening
from orchestrator.tracking.runs import truncated
from orchestrator.tracking.uri import embedded

HOST, PORT = "127.0.0.1", 5000
COMMAND = 200  # characters of the command of whoever has the port


def parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    p = argparse.ArgumentParser(
        prog="python -m orchestrator.ui",
        description=f"Open the MLflow UI on a store's own database, on http://{HOST}:{PORT}; Ctrl-C ends it. "
        "Tables of an older MLflow are brought up to date; the artifacts of a store that was moved are found in it.",
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
    found = embedded(root)
    if not found.file.exists():  # MLflow would make an empty one
        remedy = f"run a sweep first, or publish one that is there: {command('report', 'SWEEP_DIR', '--publish')}"
        raise ConfigError(
            [Fault("--storage", "", f"got {root}, but {short(found.file)} is not there: {remedy}")]
        )
    if holder := taken(args.port):
        raise ConfigError(
            [
                Fault(
                    "--port",
                    "",
                    f"got {args.port}, which {holder} has: end it, or give another port",
                )
            ]
        )
    from orchestrator.tracking.client import quieten
    from orchestrator.tracking.database import create_or_upgrade, relocate_artifacts

    quieten()
    for line in (*create_or_upgrade(found.file), *relocate_artifacts(found.file)):
        print(line)
    sys.stdout.flush()
    words = [
        "-m",
        "mlflow",
        "ui",
        "--host",
        HOST,
        "--port",
        str(args.port),
        "--backend-store-uri",
        found.uri,
    ]
    os.execv(sys.executable, [sys.executable, *words])


def taken(port: int) -> str:
    """Who listens on `port` of this machine, in words; empty where it is free."""
    with socket.socket() as tried:
        tried.setsockopt(
            socket.SOL_SOCKET, socket.SO_REUSEADDR, 1
        )  # what has just been closed is free
        try:
            tried.bind((HOST, port))
        except PermissionError as e:
            raise ConfigError(
                [Fault("--port", "", f"got {port}: {e.strerror}; give one above 1023")]
            ) from None
        except OSError:
            return _listening(port)
    return ""


def _listening(port: int) -> str:
    import psutil

    def holds(connections: list[Any]) -> list[Any]:
        return [
            c
            for c in connections
            if c.laddr and c.laddr.port == port and c.status == psutil.CONN_LISTEN
        ]

    try:
        process = psutil.Process(next(c.pid for c in holds(psutil.net_connections("tcp")) if c.pid))
        while (parent := process.parent()) is not None and holds(parent.net_connections("tcp")):
            process = parent  # a server's workers have the port from it
        return f"process {process.pid} ({truncated(' '.join(process.cmdline()) or process.name(), COMMAND)})"
    except (psutil.Error, StopIteration, OSError):
        return "a process of another user, or of another container,"


if __name__ == "__main__":
    raise SystemExit(main())
