"""`python -m orchestrator.stages`: list what lies in the store and who needs it, or free what no
kept sweep needs."""

import argparse

from orchestrator.console import command_line
from orchestrator.fields.faults import ConfigError, Fault
from orchestrator.store import layout
from orchestrator.store.place import Place
from orchestrator.store.store import Store
from orchestrator.sweeps import opening
from orchestrator.sweeps.inventory import (
    age_text,
    entries,
    matches,
    running,
    size_text,
    sweeps,
    unneeded,
)


def parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    p = argparse.ArgumentParser(
        prog="python -m orchestrator.stages",
        description="List the finished stages of a store, or free (gc) those that no kept sweep needs.",
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
        "--dry-run", action="store_true", help="say what would be removed, and remove nothing"
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
    found = entries(root)
    for e in found:
        table.add_row(
            e.kind,
            e.name,
            e.key,
            size_text(e.bytes),
            age_text(e.age),
            ", ".join(e.needed_by) or "nobody",
        )
    console = command_line.make_console()
    console.print(table)
    console.print(f"{len(found)} stages, {size_text(sum(e.bytes for e in found))}", highlight=False)
    if aside := (root / layout.DAMAGED).find("*"):
        what = "gc frees those that were made again, or that no kept sweep needs"
        there = root / layout.DAMAGED
        console.print(
            f"{len(aside)} damaged results were set aside in {there}: {what}", highlight=False
        )
    return 0


def _collect(args: argparse.Namespace) -> int:
    root = command_line.storage(args)
    opening.check_store(root)
    known = sweeps(root)
    for pattern in args.keep_sweeps:
        if not any(matches(sweep, pattern) for sweep in known):
            there = ", ".join(sorted(known)) or "none"
            raise ConfigError(
                [Fault("--keep-sweeps", "", f"got {pattern}, expected a sweep of {root}: {there}")]
            )
    keep = [*args.keep_sweeps, *running(root)]
    spare = unneeded(entries(root), keep)
    console = command_line.make_console()
    verb = "would remove" if args.dry_run else "removed"
    for entry in spare:
        if not args.dry_run:
            Store(root).remove(entry.key)
        console.print(f"{verb} {entry.name} {entry.key}, {size_text(entry.bytes)}", highlight=False)
    total = size_text(sum(e.bytes for e in spare))
    console.print(f"{verb} {len(spare)} stages, {total}", highlight=False)
    needed = {
        key for sweep, of in known.items() if any(matches(sweep, p) for p in keep) for key in of
    }
    if not args.dry_run:
        for warned in (root / layout.NOTICES).find("*"):
            if warned.name not in needed:
                warned.clear()
    store = Store(root)
    for aside in (root / layout.DAMAGED).find("*"):
        key = aside.name.rpartition("-")[0]
        if key not in needed or store.done(key):
            if not args.dry_run:
                aside.clear()
            console.print(
                f"{verb} the damaged result {aside.name}, set aside before", highlight=False
            )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
