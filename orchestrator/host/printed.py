"""Paths and commands for messages: a shell accepts them as printed, in the current folder."""

import os
import shlex
import sys
from pathlib import Path


def short(place: object) -> str:
    """`place` as a path relative to the current folder, if it is below that."""
    below = isinstance(place, Path) and place.is_relative_to(Path.cwd())
    return os.path.relpath(str(place)) if below else str(place)


def quoted(place: object) -> str:
    """`short`, quoted as one word of a shell command, and never read as an option."""
    text = short(place)
    return shlex.quote(f"./{text}" if text.startswith("-") else text)


def command(name: str, *arguments: object) -> str:
    """The command `python -m orchestrator.<name>` with these arguments, with the path of this
    Python."""
    return python("-m", f"orchestrator.{name}", *arguments)


def pip(*arguments: str) -> str:
    """A command of this Python's pip."""
    return python("-m", "pip", *arguments)


def python(*arguments: object) -> str:
    """A command with the path of this Python: outside of its environment the name `python` means
    another one, or none."""
    words = [quoted(Path(sys.executable or "python3"))]
    for argument in arguments:
        words.append(shlex.quote(argument) if isinstance(argument, str) else quoted(argument))
    return " ".join(words)
