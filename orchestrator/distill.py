"""`python -m orchestrator.distill FILE`: Train a teacher and distill it into its chain of
students."""

import argparse

from orchestrator import callable_command
from orchestrator.console import command_line

WHAT = "Train a teacher and distill it into its chain of students."


def parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    return command_line.run_parser("distill", WHAT)


def main(argv: list[str] | None = None) -> int:
    """The command; returns the exit status."""
    return command_line.run_command("distill", WHAT, "student", argv)


callable_command(__name__)

if __name__ == "__main__":
    command_line.exit_process(main())
