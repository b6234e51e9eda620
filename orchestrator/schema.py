"""`python -m orchestrator.schema [FILE]`: Print the JSON Schema of an experiment file, by which editors
complete and check its keys.

experiments/schema.json is its output."""

import argparse
from pathlib import Path

from orchestrator.console import argument_types, command_line
from orchestrator.fields import plugins
from orchestrator.settings import json_schema, loading


def parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    p = command_line.make_parser(
        "schema",
        "Print the JSON Schema of an experiment file, by which editors complete and check its keys. "
        "`kacflow new` writes it next to an experiment.",
    )
    what = "an experiment, whose plugins add their kinds to the schema"
    p.add_argument("file", metavar="FILE", type=argument_types.experiment, nargs="?", help=what)
    return p


def main(argv: list[str] | None = None) -> int:
    """The command; returns the exit status."""
    args = parser().parse_args(argv)
    return command_line.guarded(lambda: _print(args.file))


def _print(file: str | None) -> int:
    if file is not None:
        loading.load(file)
    else:
        plugins.load((), Path())  # those of installed packages
    print(json_schema.text())
    return 0


if __name__ == "__main__":
    command_line.exit_process(main())
