"""`python -m orchestrator.new [NAME]`: Write one of the shipped experiments into this folder; without a
name, list them."""

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.console import argument_types, command_line
from orchestrator.fields import plugins
from orchestrator.fields.faults import ConfigError, Fault, describe
from orchestrator.settings import json_schema, shipped

if TYPE_CHECKING:
    from rich.table import Table

SCHEMA = "kacflow.schema.json"  # beside the written file


def parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    p = command_line.make_parser(
        "new",
        "Write one of the shipped experiments, to be changed and run, and next to it the JSON Schema by "
        "which editors complete and check its keys. Without a name: list the experiments.",
    )
    p.add_argument(
        "name",
        metavar="NAME",
        type=argument_types.shipped,
        nargs="?",
        help="a shipped experiment, such as nfe_sweep",
    )
    what = "the file to write (default: NAME.yaml in this folder)"
    p.add_argument("--out", metavar="FILE", type=argument_types.path, help=what)
    return p


def main(argv: list[str] | None = None) -> int:
    """The command; returns the exit status."""
    p = parser()
    args = p.parse_args(argv)
    if args.out is not None and args.name is None:
        p.error("--out is where an experiment is written: name one")
    return command_line.guarded(lambda: _write(args.name, args.out))


def _write(name: str | None, out: str | None) -> int:
    if name is None:
        command_line.make_console().print(_listed())
        return 0
    source = shipped.file_of(name)
    if source is None:
        what = f"got {describe(name)}, expected one of {shipped.choices(name)}"
        raise ConfigError([Fault("NAME", "", what)])
    path = Path(out) if out else Path(f"{source.stem}.yaml")
    _check(path)
    schema = path.parent / SCHEMA
    plugins.load((), path.parent)  # those of installed packages
    schema.write_text(f"{json_schema.text()}\n")
    path.write_text(shipped.with_schema(source.read_text(), SCHEMA))
    print(f"wrote {path}, and {schema}, by which editors check its keys")
    print(f"next      kacflow sweep {path}")
    return 0


def _check(path: Path) -> None:
    """Raises ConfigError if an experiment cannot be written to `path`."""
    if path.exists():
        problem = "is there already: give another name with --out, or remove it"
    elif not path.parent.is_dir():
        problem = f"there is no folder {path.parent}"
    elif not os.access(path.parent, os.W_OK):
        problem = f"{path.parent} cannot be written"
    elif path.suffix not in (".yaml", ".yml"):
        problem = "expected a name that ends with .yaml"
    else:
        return
    raise ConfigError([Fault(str(path), "", problem)])


def _listed() -> "Table":
    from rich.table import Table

    table = Table("name", "what it is for")
    for name in shipped.names():
        path = shipped.file_of(name)
        assert path is not None
        table.add_row(name, shipped.about(path))
    return table


if __name__ == "__main__":
    command_line.exit_process(main())
