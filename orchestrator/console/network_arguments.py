"""Command-line arguments that name a trained network, and how it is sampled."""

import argparse

from orchestrator.console import argument_types, command_line
from orchestrator.networks.locate import EXPECTED_RUN, TrainedRun, locate


def add_arguments(p: argparse.ArgumentParser) -> None:
    """RUN, where to look it up, and how it is sampled."""
    p.add_argument("source", metavar="RUN", type=argument_types.path, help=EXPECTED_RUN)
    command_line.add_set(p, "override one setting of a FILE, as when it was trained")
    where = "where names are looked up (default runs), and a FILE's networks in the place of its own storage"
    p.add_argument("--storage", type=argument_types.path, help=where)
    asked = "where MLflow is asked (default: mlflow.db in --storage)"
    p.add_argument("--tracking-uri", type=argument_types.uri, help=asked)
    steps = "steps from noise to image; without --model: of the student that has so many, or else of the teacher"
    p.add_argument("--steps", type=int, help=steps)
    which = "which network (default: by --steps, or else as the run samples; of a sweep the best student)"
    p.add_argument("--model", choices=("teacher", "student"), help=which)
    p.add_argument(
        "--solver", choices=("euler", "midpoint", "heun", "ab2", "rk4"), help="the teacher's solver"
    )
    p.add_argument("--guidance", type=float, help="guidance scale of the teacher; 1 is none")


def arguments(args: argparse.Namespace) -> list[str]:
    """The arguments by which another command finds the same run."""
    options = [*(("--set", text) for text in args.overrides)]
    options += [("--storage", args.storage)] if args.storage is not None else []
    options += [("--tracking-uri", args.tracking_uri)] if args.tracking_uri is not None else []
    return [args.source, *(word for option in options for word in option)]


def find(args: argparse.Namespace) -> TrainedRun:
    """What the command line names; raises ConfigError that says what is expected."""
    storage = None if args.storage is None else command_line.storage(args)
    return locate(args.source, storage, args.tracking_uri, args.overrides)
