"""Command-line arguments that name a trained network and say how to sample it."""

import argparse

from orchestrator.console import argument_types, command_line
from orchestrator.networks.locate import EXPECTED_RUN, TrainedRun, locate


def add_arguments(p: argparse.ArgumentParser) -> None:
    """RUN, the stores to look it up in, and the settings of sampling."""
    p.add_argument("source", metavar="RUN", type=argument_types.path, help=EXPECTED_RUN)
    command_line.add_set(p, "override one setting of a FILE, as when it was trained")
    storage = "the store of names (default runs); for a FILE: instead of its own storage"
    p.add_argument("--storage", type=argument_types.folder, help=storage)
    tracking = "the MLflow store to search (default: mlflow.db in --storage)"
    p.add_argument("--tracking-uri", type=argument_types.uri, help=tracking)
    steps = "steps from noise to image; without --model it selects the student with as many, or else the teacher"
    p.add_argument("--steps", type=int, help=steps)
    model = "which network (default: by --steps, or else as the run samples; of a sweep the best student)"
    p.add_argument("--model", choices=("teacher", "student"), help=model)
    p.add_argument(
        "--solver", choices=("euler", "midpoint", "heun", "ab2", "rk4"), help="the teacher's solver"
    )
    p.add_argument("--guidance", type=float, help="guidance scale of the teacher; 1 is none")


def arguments(args: argparse.Namespace) -> list[str]:
    """The arguments with which another command finds the same run."""
    words = [args.source]
    for text in args.overrides:
        words += ["--set", text]
    if args.storage is not None:
        words += ["--storage", args.storage]
    if args.tracking_uri is not None:
        words += ["--tracking-uri", args.tracking_uri]
    return words


def find(args: argparse.Namespace) -> TrainedRun:
    """The run that the command line names; raises ConfigError where there is none."""
    storage = None if args.storage is None else command_line.storage(args)
    return locate(args.source, storage, args.tracking_uri, args.overrides)
