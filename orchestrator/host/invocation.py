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


def program(command: str) -> str:
    """The words with which the user named `command`, for its usage line."""
    by_one_name = one_name(command)
    return by_one_name if sys.argv[:1] == [by_one_name] else f"python -m orchestrator.{command}"


def one_name(command: str) -> str:
    """`command` as the program `kacflow` has it."""
    return f"kacflow {command}"


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
