"""`python -m orchestrator.train FILE`: Train the teacher of an experiment."""

from orchestrator import cli

WHAT = "Train the teacher of an experiment."


def main(argv: list[str] | None = None) -> int:
    """The command; returns the exit status."""
    return cli.run_command("train", WHAT, "teacher", argv)


if __name__ == "__main__":
    cli.leave(main())
