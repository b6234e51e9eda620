"""`python -m orchestrator.sweep FILE`: Run every trial of an experiment's sweep, and compare
them."""

import argparse

from orchestrator import callable_command
from orchestrator.console import command_line

WHAT = "Run every trial of an experiment's sweep, and compare them."


def parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    return command_line.run_parser("sweep", WHAT)


def main(argv: list[str] | None = None) -> int:
    """The command; returns the exit status."""
    return command_line.run_command("sweep", WHAT, "sweep", argv)


callable_command(__name__)

if __name__ == "__main__":
    command_line.exit_process(main())
