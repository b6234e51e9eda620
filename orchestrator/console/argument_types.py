"""Types of command-line arguments for argparse, with this project's error messages."""

import argparse
from collections.abc import Callable

from orchestrator.fields.addresses import as_path
from orchestrator.settings.tracking_address import as_uri


def path(text: str) -> str:
    """A path or s3:// address, with ~ and environment variables expanded: a shell expands ~ only at
    the beginning of a word, not in --out=~/x.png."""
    return _expanded(text, as_path)


def uri(text: str) -> str:
    """The address of a tracking store, expanded in the same way."""
    return _expanded(text, as_uri)


def _expanded(text: str, expand: Callable[[str], str]) -> str:
    try:
        return expand(text)
    except ValueError as e:
        raise argparse.ArgumentTypeError(str(e)) from None
