"""Paths and commands as they are printed: a shell takes them as they stand, from where the user
stands."""

import os
import shlex
import sys
from pathlib import Path


def short(place: object) -> str:
    """`place` relative to where the user stands, if it lies below."""
    below = isinstance(place, Path) and place.is_relative_to(Path.cwd())
    return os.path.relpath(str(place)) if below else str(place)


def quoted(place: object) -> str:
    """`short`, as one word of a shell's command that is no option."""
    text = short(place)
    return shlex.quote(f"./{text}" if text.startswith("-") else text)


def command(name: str, *arguments: object) -> str:
    """The command `python -m orchestrator.<name>` with these arguments, by the Python that runs
    this."""
    return python("-m", f"orchestrator.{name}", *arguments)


def pip(*arguments: str) -> str:
    """A command of the pip that belongs to this Python."""
    return python("-m", "pip", *arguments)


def python(*arguments: object) -> str:
    """A command by the Python that runs this: outside of its environment the name alone finds
    another, or none."""
    words = (shlex.quote(each) if isinstance(each, str) else quoted(each) for each in arguments)
    return " ".join((quoted(Path(sys.executable or "python3")), *words))
