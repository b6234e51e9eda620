"""Command lines in messages, for users to type."""

import shlex
import sys
from collections.abc import Sequence

from orchestrator.host import printed

COMMANDS = {
    "teacher": "train",
    "student": "distill",
    "evaluation": "evaluate",
    "sweep": "sweep",
}  # by a plan's goal


def typed(command: str, argv: Sequence[str] | None) -> str:
    """The command line that started this process, quoted for a shell; if the command was called as
    a function with `argv`, an equivalent command line."""
    if argv is None:
        return shlex.join(sys.orig_argv)
    return printed.command(command, *argv)


def portable(command: str, *arguments: str) -> str:
    """`python -m orchestrator.<command>` with `arguments`, quoted for a shell of any machine; for
    this machine: `printed.command`."""
    return shlex.join(["python", "-m", f"orchestrator.{command}", *arguments])
