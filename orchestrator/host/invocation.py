"""The command lines that users are told to type."""

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
    """The command line by which this process was started, for a shell; of a command that was called
    with `argv` the one that does the same."""
    if argv is None:
        return shlex.join(sys.orig_argv)
    return printed.command(command, *argv)


def portable(command: str, *arguments: str) -> str:
    """`python -m orchestrator.<command>` with `arguments`, quoted for a shell of another machine:
    see `printed` for those of this one."""
    return shlex.join(["python", "-m", f"orchestrator.{command}", *arguments])
