"""`python -m orchestrator.playground RUN`: a web page that shows the images for steps, seed, label
and guidance that one sets there.

RUN is as for `sample`. Ray Serve listens on this machine only, until Ctrl-C. Nothing is trained or
written."""

import argparse
import logging
import os
import socket
from threading import Event

from orchestrator.cluster import connection, local_ray
from orchestrator.console import command_line, network_arguments
from orchestrator.fields.faults import ConfigError, Fault
from orchestrator.host import machine
from orchestrator.networks import locate, sampling_choice
from orchestrator.settings.experiment import Experiment
from orchestrator.store import layout

HOST, PORT = "127.0.0.1", 8321
# modules that Ray Serve imports
NEEDED = ("fastapi", "grpc", "grpc_reflection", "starlette", "uvicorn", "watchfiles")


def parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    lines = (__doc__ or "").splitlines()
    p = command_line.make_parser("playground", lines[0].split(": ")[1])
    network_arguments.add_arguments(p)
    p.add_argument("--port", type=int, default=PORT, help=f"of the page on {HOST} (default {PORT})")
    return p


def main(argv: list[str] | None = None) -> int:
    """The command; returns the exit status."""
    args = parser().parse_args(argv)
    return command_line.guarded(lambda: _play(args))


def _play(args: argparse.Namespace) -> int:
    _check(args)
    os.environ.pop("RAY_ADDRESS", None)  # always a cluster of its own, on this machine
    connection.prepare_environment()
    source = network_arguments.find(args)
    config = sampling_choice.from_options(source, args)
    stage = sampling_choice.stage_to_sample(source, config)
    print(sampling_choice.origin_text(source, stage))
    source.store.result(stage.key).path(layout.NETWORK)  # raises DamagedError before Ray starts
    for note in local_ray.check():
        print(note)
    print(f"{source.name}: starting Ray Serve", flush=True)
    try:
        with connection.sigterm_interrupts():
            connection.connect("local")
        with connection.sigterm_interrupts():
            _serve(args.port, source, config, network_arguments.arguments(args))
            print(f"http://{HOST}:{args.port}/ (Ctrl-C ends it)", flush=True)
            Event().wait()
    finally:
        connection.disconnect()
    return 0


def _serve(port: int, source: locate.TrainedRun, config: Experiment, words: list[str]) -> None:
    """Start Ray Serve on `port`; returns when it is ready. `config`: the first settings of
    sampling; `words`: the arguments with which another command finds `source`."""
    import torch
    from ray import serve

    from orchestrator.networks.playground_http import PlaygroundServer

    logging.getLogger("ray.serve").setLevel(logging.CRITICAL)
    serve.start(
        http_options={"host": HOST, "port": port},
        logging_config={"log_level": "ERROR", "enable_access_log": False},
    )
    machine.limit_threads()
    application = serve.deployment(PlaygroundServer).bind(
        source, config, words, torch.get_num_threads()
    )
    serve.run(application, name="playground", blocking=False)


def _check(args: argparse.Namespace) -> None:
    missing = command_line.missing_modules(NEEDED)
    if missing:
        what = f"the playground needs Ray Serve, which lacks {missing}"
        raise ConfigError([Fault("", "", f"{what}: pip install 'kacflow[playground]'")])
    if not 1 <= args.port <= 65535:
        what = f"got {args.port}, expected a number from 1 to 65535"
        raise ConfigError([Fault("--port", "", what)])
    with socket.socket() as s:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            s.bind((HOST, args.port))
        except OSError as e:
            what = f"got {args.port}, which is not available ({e.strerror}): choose another one"
            raise ConfigError([Fault("--port", "", what)]) from None


if __name__ == "__main__":
    raise SystemExit(main())
