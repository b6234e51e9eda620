"""`python -m orchestrator.evaluate FILE`: Train what the base run needs, sample it and measure the images."""

from orchestrator import cli

WHAT = "Train what the base run needs, sample it and measure the images."


def main(argv: list[str] | None = None) -> int:
    """The command; returns the exit status."""
    return cli.run_command("evaluate", WHAT, "evaluation", argv)


if __name__ == "__main__":
    cli.leave(main())
