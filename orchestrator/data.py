"""`python -m orchestrator.data FILE --out real.png`: the training images as a network sees them,
before one is trained.

The images are read and cached as for a training. Prints the number of images by class, format and
size, and how they were converted. Nothing is trained, and Ray is not started."""

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
SHOWN = 64  # how many images the picture shows
LISTED = 20  # how many classes, formats or sizes a line lists


def parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    lines = (__doc__ or "").splitlines()
    p = command_line.make_parser("data", lines[0].split(": ")[1])
    what = "an experiment, such as experiments/nfe_sweep.yaml"
    p.add_argument("file", metavar="FILE", type=argument_types.experiment, help=what)
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
        files = settings.look()
    except (ValueError, OSError) as e:
        raise ConfigError([Fault(args.file, "data", str(e))]) from None
    shown = pictures.spread_over_classes(data, SHOWN)
    write_bytes(Path(args.out), marks.marked(pictures.panel(data, SHOWN)))
    print("\n".join(summary(settings, data, files)))
    print(f"{len(shown)} of them, as a network sees them: {args.out}")
    return 0


def summary(settings: DatasetKind, data: "ImageData", files: "Look") -> Iterable[str]:
    """Lines about a data set: its count, classes, formats, sizes and conversions. `files`: what the
    files hold."""
    root = f" {settings.root_folder}" if settings.root_folder else ""
    what = "points"
    if not settings.facts.points:
        channels = "1 channel" if data.channels == 1 else f"{data.channels} channels"
        what = f"images, seen as {data.size}x{data.size}, {channels}"
    yield f"{data.name}{root}: {len(data):,} {what}"
    if files.class_counts:
        counts = zip(files.class_names, files.class_counts, strict=True)
        yield f"{data.classes} classes: {_listed(f'{name} ({count:,})' for name, count in counts)}"
    else:
        yield f"{data.classes} classes" if data.classes else "no classes"
    if files.formats:
        formats = (f"{ending} ({count:,})" for ending, count in _most_first(files.formats))
        yield f"formats: {_listed(formats)}"
    if files.sizes:
        sizes = (f"{w}x{h} ({count:,})" for (w, h), count in _most_first(files.sizes))
        part = "" if files.measured >= len(data) else f", of {files.measured:,} that were measured"
        yield f"sizes: {_listed(sizes)}{part}"
    yield from data.notes


def _most_first(counts: Mapping[Key, int]) -> list[tuple[Key, int]]:
    return sorted(counts.items(), key=lambda item: -item[1])


def _listed(texts: Iterable[str]) -> str:
    items = list(texts)
    text = ", ".join(items[:LISTED])
    return f"{text} and {len(items) - LISTED:,} more" if len(items) > LISTED else text


def _check(out: Path) -> None:
    if out.suffix.lower() != ".png":
        raise ConfigError([Fault("--out", "", f"got {out}, expected a name that ends in .png")])
    if faults := output_file.faults(out):
        raise ConfigError(faults)


if __name__ == "__main__":
    raise SystemExit(main())
