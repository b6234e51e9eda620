"""`python -m orchestrator.train FILE`: Train the teacher of an experiment."""

import argparse

from orchestrator import callable_command
from orchestrator.console import command_line

WHAT = "Train the teacher of an experiment."


def parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    return command_line.run_parser("train", WHAT)


def main(argv: list[str] | None = None) -> int:
    """The command; returns the exit status."""
    return command_line.run_command("train", WHAT, "teacher", argv)


callable_command(__name__)

if __name__ == "__main__":
    command_line.exit_process(main())
