"""`python -m benchmarks [PART ...]`: each part in a process of its own, one after the other, and a
table of them all.

`--json FILE` writes the figures there as well. Without a part: all but `gpu`.
"""

import argparse
import importlib
import json
import subprocess
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.measure import Figure

WIDTH = 110  # columns: a file or a pipe has 80, which folds the table
PARTS = {
    "draws": "Kac draws against a table of quantiles",
    "training": "training steps against plain PyTorch and against their arithmetic",
    "sampling": "sampling against the network's evaluations",
    "metrics": "FID against the extraction of its features",
    "start": "commands against the imports they need",
    "two_workers": "two workers of one core against one of two",
    "gpu": "training and sampling of the papers' networks on a CUDA device",
    "sweep": "twelve trials against their stages, and the memory they take",
}


def main(argv: list[str] | None = None) -> int:
    """Measure and print; the exit status is that of the last part that failed, or 0."""
    listed = "; ".join(f"{name}: {what}" for name, what in PARTS.items())
    parser = argparse.ArgumentParser("python -m benchmarks", description=__doc__, epilog=listed)
    parser.add_argument(
        "parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}; all where none is named"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there as well")
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args(argv)
    if unknown := [part for part in given.parts if part not in PARTS]:
        parser.error(f"PART: got {unknown[0]!r}, expected one of {', '.join(PARTS)}")
    if given.here:
        (part,) = given.parts
        given.json.write_text(
            json.dumps([asdict(f) for f in importlib.import_module(f"benchmarks.{part}").figures()])
        )
        return 0
    return _all(given.parts or [part for part in PARTS if part != "gpu"], given.json)


def _all(parts: list[str], keep: Path | None) -> int:
    console = Console()
    status = 0
    found = []
    console.width = max(console.width, WIDTH)
    for part in parts:
        console.print(f"[bold]{part}[/]: {PARTS[part]}", highlight=False)
        with tempfile.TemporaryDirectory() as folder:
            said = Path(folder) / "figures.json"
            done = subprocess.run(
                [sys.executable, "-m", "benchmarks", part, "--here", "--json", said], check=False
            )
            status = done.returncode or status
            figures = (
                [Figure(**each) for each in json.loads(said.read_text())] if said.exists() else []
            )
        console.print(table(figures))
        found += figures
    if keep is not None:
        keep.write_text(json.dumps([asdict(figure) for figure in found], indent=1) + "\n")
    return status


def table(figures: list[Figure]) -> Table:
    """The figures for people."""
    shown = Table("what", "against", "median", "quartiles", "to reach", "")
    for f in figures:
        unit = f" {f.unit}" if f.unit else ""
        between = "" if f.low == f.high else f"{f.low:.3g} .. {f.high:.3g}"
        reached = "" if f.met is None else "reached" if f.met else "NOT reached"
        shown.add_row(f.what, f.against, f"{f.value:.3g}{unit}", between, f.reach, reached)
    return shown


if __name__ == "__main__":
    raise SystemExit(main())
