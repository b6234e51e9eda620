"""`python -m orchestrator.evaluate FILE`: Train what the base run needs, sample it and measure the
images."""

import argparse

from orchestrator import callable_command
from orchestrator.console import command_line

WHAT = "Train what the base run needs, sample it and measure the images."


def parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    return command_line.run_parser("evaluate", WHAT)


def main(argv: list[str] | None = None) -> int:
    """The command; returns the exit status."""
    return command_line.run_command("evaluate", WHAT, "evaluation", argv)


callable_command(__name__)

if __name__ == "__main__":
    command_line.exit_process(main())
