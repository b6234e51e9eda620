"""`python -m orchestrator.data FILE --out real.png`: the training images as a network sees them,
before one is trained.

The images are read as a training reads them, and kept for it. Prints how many there are of each
class, size and format, and what was done to them; nothing is trained, and Ray is not started."""

import argparse
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from orchestrator.console import argument_types, command_line, output_file
from orchestrator.fields.faults import ConfigError, Fault
from orchestrator.methods.dataset_kind import DatasetKind
from orchestrator.plan import data as dataset_info
from orchestrator.settings import loading

if TYPE_CHECKING:
    from kaccore.data import ImageData, Look

Key = TypeVar("Key")
SHOWN = 64  # images
NAMED = 20  # classes, sizes


def parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    lines = (__doc__ or "").splitlines()
    p = argparse.ArgumentParser(
        prog="python -m orchestrator.data", description=lines[0].split(": ")[1]
    )
    what = "an experiment, such as experiments/nfe_sweep.yaml"
    p.add_argument("file", metavar="FILE", type=argument_types.path, help=what)
    p.add_argument(
        "--set",
        metavar="KEY=VALUE",
        action="append",
        default=[],
        dest="overrides",
        help="override one setting, such as --set data.background=black; may be repeated",
    )
    spread = f"real.png, {SHOWN} images spread over the classes"
    p.add_argument("--out", type=argument_types.path, required=True, help=spread)
    return p


def main(argv: list[str] | None = None) -> int:
    """The command; returns the exit status."""
    args = parser().parse_args(argv)
    return command_line.guarded(lambda: _show(args))


def _show(args: argparse.Namespace) -> int:
    _check(Path(args.out))
    settings = loading.load(args.file, args.overrides).data
    output_file.check_outside_images(Path(args.out), settings)
    from kaccore.files import write_bytes
    from orchestrator.work import marks, pictures

    try:
        data = dataset_info.images(settings)
        found = settings.look()
    except (ValueError, OSError) as e:
        raise ConfigError([Fault(args.file, "data", str(e))]) from None
    chosen = pictures.spread_over_classes(data, SHOWN)
    write_bytes(Path(args.out), marks.marked(pictures.panel(data, SHOWN)))
    print("\n".join(described(settings, data, found)))
    print(f"{len(chosen)} of them, as a network sees them: {args.out}")
    return 0


def described(settings: DatasetKind, data: "ImageData", found: "Look") -> Iterable[str]:
    """Lines on a data set: its count, classes, formats, sizes and what was done."""
    where = f" {settings.root_folder}" if settings.root_folder else ""
    what = (
        "points"
        if settings.facts.points
        else f"images, seen as {data.size}x{data.size}, {data.channels} channel"
    )
    plural = "s" if data.channels > 1 and not settings.facts.points else ""
    yield f"{data.name}{where}: {len(data):,} {what}{plural}"
    if found.class_counts:
        pairs = zip(found.class_names, found.class_counts, strict=True)
        yield f"{data.classes} classes: {_listed(f'{name} ({count:,})' for name, count in pairs)}"
    else:
        yield f"{data.classes} classes" if data.classes else "no classes"
    if found.formats:
        yield f"formats: {_listed(f'{ending} ({count:,})' for ending, count in _falling(found.formats))}"
    if found.sizes:
        sizes = (
            f"{width}x{height} ({count:,})" for (width, height), count in _falling(found.sizes)
        )
        part = "" if found.measured >= len(data) else f", of {found.measured:,} that were measured"
        yield f"sizes: {_listed(sizes)}{part}"
    yield from data.notes


def _falling(counts: Mapping[Key, int]) -> list[tuple[Key, int]]:
    return sorted(counts.items(), key=lambda item: -item[1])


def _listed(texts: Iterable[str]) -> str:
    listed = list(texts)
    more = f" and {len(listed) - NAMED:,} more" if len(listed) > NAMED else ""
    return ", ".join(listed[:NAMED]) + more


def _check(out: Path) -> None:
    if out.suffix.lower() != ".png":
        raise ConfigError([Fault("--out", "", f"got {out}, expected a name that ends in .png")])
    if faults := output_file.faults(out):
        raise ConfigError(faults)


if __name__ == "__main__":
    raise SystemExit(main())
