"""`python -m orchestrator.sweep FILE`: Run every trial of an experiment's sweep, and compare them."""

from orchestrator import cli

WHAT = "Run every trial of an experiment's sweep, and compare them."


def main(argv: list[str] | None = None) -> int:
    """The command; returns the exit status."""
    return cli.run_command("sweep", WHAT, "sweep", argv)


if __name__ == "__main__":
    cli.leave(main())
