"""Types of command-line arguments for argparse, with this project's error messages.

By an argument's type a shell knows what completes it: see the command `completion`."""

import argparse
from collections.abc import Callable
from pathlib import Path

from orchestrator.cluster.slurm.script import minutes_of
from orchestrator.fields.addresses import as_path
from orchestrator.settings.tracking_address import as_uri


def path(text: str) -> str:
    """A path or s3:// address, with ~ and environment variables expanded: a shell expands ~ only at
    the beginning of a word, not in --out=~/x.png."""
    return _expanded(text, as_path)


def file(text: str) -> Path:
    """The path of a file."""
    return Path(path(text))


def folder(text: str) -> str:
    """A folder or s3:// address."""
    return path(text)


def experiment(text: str) -> str:
    """The path of an experiment's YAML."""
    return path(text)


def plugin(text: str) -> str:
    """A module's name or the path of a .py file, as it is."""
    return text


def shipped(text: str) -> str:
    """The name of a shipped experiment, also with the ending of its file."""
    return text.removesuffix(".yaml")


def uri(text: str) -> str:
    """The address of a tracking store, expanded in the same way."""
    return _expanded(text, as_uri)


def count(text: str) -> int:
    """A whole number >= 1."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"got {text}, expected a whole number >= 1")
    return int(text)


def duration(text: str) -> int:
    """The minutes of a time as Slurm takes it, such as 4:00:00."""
    try:
        return minutes_of(text)
    except ValueError as e:
        raise argparse.ArgumentTypeError(f"got {text}, {e}") from None


def _expanded(text: str, expand: Callable[[str], str]) -> str:
    try:
        return expand(text)
    except ValueError as e:
        raise argparse.ArgumentTypeError(str(e)) from None
