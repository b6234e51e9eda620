"""`python -m orchestrator.reference`: print the reference of the experiment file as Markdown, made
from the settings.

docs/reference.md is its output.
"""

import argparse
import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from orchestrator.console import argument_types, command_line
from orchestrator.fields import plugins
from orchestrator.fields.faults import ConfigError
from orchestrator.fields.kind import FAMILIES, Family, Kind, meaning
from orchestrator.fields.messages import expected
from orchestrator.fields.schema import inner_block
from orchestrator.settings.entries import FORMS
from orchestrator.settings.experiment import Experiment
from orchestrator.settings.space import NOT_SWEPT

TOP = """\
# The experiment file

Every key of the file. The command `python -m orchestrator.reference` makes this page from the program's settings. A
file needs `name`, `data.name` and `path.kind`; every other key has the default that this page gives. `--set KEY=VALUE`
sets a dotted key from the command line. Any key can be swept but {} and those of {}.

`base: nfe_sweep` builds on a shipped experiment (`kacflow new` lists them), `base: other.yaml` on a file, relative to
this one. All settings of the base hold but those that this file gives. Blocks are merged key by key, and so are
`sweep.space` and `sweep.conditions`, where null removes a key. Other lists are replaced, plugins added. A run leaves
out keys of the base that a kind of this file does not have, and prints them."""


def markdown() -> str:
    """The whole page."""
    fields = Experiment.model_fields
    keys = {name: field for name, field in fields.items() if inner_block(field) is None}
    blocks = {name: field for name, field in fields.items() if name not in keys}
    fixed_keys = [f"`{name}`" for name in NOT_SWEPT if name not in blocks]
    fixed_blocks = [f"`{name}`" for name in NOT_SWEPT if name in blocks]
    parts = [TOP.format(_and(fixed_keys), _and(fixed_blocks)), _table(keys)]
    for name, field in blocks.items():
        block = inner_block(field)
        assert block is not None
        parts.append(f"## {name}\n\n{field.description}")
        if name in FAMILIES:
            parts += _kinds(FAMILIES[name])
        else:
            parts.append(_table(block.model_fields))
    return "\n\n".join(parts) + "\n"


def _kinds(family: Family[Any]) -> Iterator[str]:
    """What kinds a block may be of, and a table of settings for each."""
    default = "required" if family.default is None else f"`{json.dumps(family.default)}` by default"
    yield f"`{family.key}`, {default}: {family.expected()}. Each has keys of its own."
    for kind in family:
        fields = {name: field for name, field in kind.model_fields.items() if name != family.key}
        yield f"### {family.key}: {kind.name_of()}\n\n{meaning(kind)}{_origin(kind)}"
        yield _table(fields) if fields else "It has no other keys."


def _origin(kind: type[Kind]) -> str:
    plugin = kind.plugin()
    return f" From the plugin {plugin.name}." if plugin else ""


def _and(names: list[str]) -> str:
    return " and ".join((", ".join(names[:-1]), names[-1]))


def _table(fields: Mapping[str, FieldInfo]) -> str:
    rows = ["| key | default | values | meaning |", "|---|---|---|---|"]
    for name, field in fields.items():
        cells = (f"`{name}`", _default(field), _values(field), field.description or "")
        rows.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(rows)


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value: Any = field.default
    return f"`{json.dumps(value.model_dump() if isinstance(value, BaseModel) else value)}`"


def _values(field: FieldInfo) -> str:
    words = expected(field.annotation, tuple(field.metadata))
    return words.replace("{grid: [...]}", FORMS) if "grid" in words else words


def parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    p = command_line.make_parser(
        "reference",
        "Print the reference of the experiment file as Markdown.",
    )
    what = "a plugin whose kinds are part of it: a module or a .py file"
    p.add_argument("plugins", metavar="PLUGIN", type=argument_types.plugin, nargs="*", help=what)
    return p


def main(argv: list[str] | None = None) -> int:
    """The command; returns the exit status."""
    args = parser().parse_args(argv)
    return command_line.guarded(lambda: _print(args.plugins))


def _print(names: list[str]) -> int:
    _, faults = plugins.load(names, Path.cwd())
    if faults:
        raise ConfigError([replace(fault, source="PLUGIN") for fault in faults])
    print(markdown(), end="")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
