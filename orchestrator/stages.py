"""`python -m orchestrator.stages`: list the stages of a store and the sweeps that need them, or
remove those that no kept sweep needs."""

import argparse
from collections.abc import Iterable

from orchestrator.console import command_line
from orchestrator.fields.faults import ConfigError, Fault
from orchestrator.store import layout
from orchestrator.store.place import Place
from orchestrator.store.store import Store
from orchestrator.sweeps import opening
from orchestrator.sweeps.inventory import (
    age_text,
    matches,
    needed_stages,
    running,
    size_text,
    stored_stages,
    unneeded,
)


def parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    p = command_line.make_parser(
        "stages",
        "List the finished stages of a store, or free (gc) those that no kept sweep needs.",
    )
    command_line.add_storage(p, "the store: a folder or s3://bucket/prefix")
    commands = p.add_subparsers(dest="command", metavar="{list,gc}")
    commands.add_parser(
        "list", help="a table of all stages: kind, key, size, age, who needs it (the default)"
    )
    gc = commands.add_parser("gc", help="remove the stages that no kept and no running sweep needs")
    gc.add_argument(
        "--keep-sweeps",
        nargs="+",
        required=True,
        metavar="NAME[/ID]",
        help="sweeps whose stages stay, as names under sweeps/ such as nfe-sweep, mnist/1a2b* or '*'",
    )
    gc.add_argument(
        "--dry-run", action="store_true", help="list what would be removed, and remove nothing"
    )
    return p


def main(argv: list[str] | None = None) -> int:
    """The command; returns the exit status."""
    args = parser().parse_args(argv)
    return command_line.guarded(
        lambda: _collect(args) if args.command == "gc" else _list(command_line.storage(args))
    )


def _list(root: Place) -> int:
    from rich.table import Table

    opening.check_store(root)
    table = Table("kind", "name", "key", "size", "age", "needed by")
    stages = stored_stages(root)
    for stage in stages:
        table.add_row(
            stage.kind,
            stage.name,
            stage.key,
            size_text(stage.bytes),
            age_text(stage.age),
            ", ".join(stage.needed_by) or "nothing",
        )
    console = command_line.make_console()
    console.print(table)
    total = size_text(sum(stage.bytes for stage in stages))
    console.print(f"{len(stages)} stages, {total}", highlight=False)
    folder = root / layout.DAMAGED
    if damaged := folder.find("*"):
        remedy = "gc frees those that were made again, or that no kept sweep needs"
        what = f"{len(damaged)} damaged results were set aside in {folder}"
        console.print(f"{what}: {remedy}", highlight=False)
    return 0


def _collect(args: argparse.Namespace) -> int:
    """Remove what neither a kept nor a running sweep needs: finished stages, warnings, and damaged
    results that were set aside."""
    root = command_line.storage(args)
    opening.check_store(root)
    sweeps = needed_stages(root)
    _check_patterns(args.keep_sweeps, sweeps, root)
    keep = [*args.keep_sweeps, *running(root)]
    stages = unneeded(stored_stages(root), keep)
    store, console = Store(root), command_line.make_console()
    verb = "would remove" if args.dry_run else "removed"
    for stage in stages:
        if not args.dry_run:
            store.remove(stage.key)
        console.print(f"{verb} {stage.name} {stage.key}, {size_text(stage.bytes)}", highlight=False)
    total = size_text(sum(stage.bytes for stage in stages))
    console.print(f"{verb} {len(stages)} stages, {total}", highlight=False)
    needed = set[str]()
    for sweep, keys in sweeps.items():
        if any(matches(sweep, pattern) for pattern in keep):
            needed |= keys
    if not args.dry_run:
        for notices in (root / layout.NOTICES).find("*"):
            if notices.name not in needed:
                notices.clear()
    for result in (root / layout.DAMAGED).find("*"):
        key = result.name.rpartition("-")[0]
        if key not in needed or store.done(key):
            if not args.dry_run:
                result.clear()
            what = f"the damaged result {result.name}, set aside before"
            console.print(f"{verb} {what}", highlight=False)
    return 0


def _check_patterns(patterns: list[str], sweeps: Iterable[str], root: Place) -> None:
    """Raise ConfigError for a pattern of --keep-sweeps that matches no sweep."""
    names = sorted(sweeps)
    for pattern in patterns:
        if not any(matches(name, pattern) for name in names):
            what = f"got {pattern}, expected a sweep of {root}: {', '.join(names) or 'none'}"
            raise ConfigError([Fault("--keep-sweeps", "", what)])


if __name__ == "__main__":
    raise SystemExit(main())
