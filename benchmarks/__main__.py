"""`python -m benchmarks [PART ...]`: runs each part in a process of its own, one after the other, and
prints a table for each.

`--json FILE` also writes the measurements there. `--once` shows in short what is measured: the
figures say little. Without a part: all except `gpu`.
"""

import argparse
import importlib
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.measure import ONCE, Measurement

WIDTH = 110  # columns: the 80 of a file or a pipe would wrap the table
PARTS = {
    "draws": "Kac draws against a table of quantiles",
    "training": "training steps against plain PyTorch and against their arithmetic",
    "sampling": "sampling against the network's evaluations",
    "metrics": "FID against the extraction of its features",
    "start": "commands against the imports they need",
    "two_workers": "two workers of one core against one of two",
    "resizing": "a group of workers that grows by a node and loses it",
    "gpu": "training and sampling of the papers' networks on a CUDA device",
    "sweep": "twelve trials against their stages, and the memory they take",
}


def main(argv: list[str] | None = None) -> int:
    """Measure and print; returns the exit status of the last part that failed, or 0."""
    listed = "; ".join(f"{name}: {what}" for name, what in PARTS.items())
    parser = argparse.ArgumentParser("python -m benchmarks", description=__doc__, epilog=listed)
    parser.add_argument(
        "parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}; default: all except gpu"
    )
    parser.add_argument(
        "--json", type=Path, metavar="FILE", help="also write the measurements to this file"
    )
    parser.add_argument(
        "--once",
        action="store_true",
        help="time each call once, without a warm-up: quick, and rough",
    )
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args(argv)
    if unknown := [part for part in given.parts if part not in PARTS]:
        parser.error(f"PART: got {unknown[0]!r}, expected one of {', '.join(PARTS)}")
    if given.here:
        (part,) = given.parts
        module = importlib.import_module(f"benchmarks.{part}")
        given.json.write_text(json.dumps([asdict(m) for m in module.measurements()]))
        return 0
    return _run(given.parts or [part for part in PARTS if part != "gpu"], given.json, given.once)


def _run(parts: list[str], output: Path | None, once: bool = False) -> int:
    console = Console()
    environment = {**os.environ, **({ONCE: "1"} if once else {})}
    status = 0
    every: list[Measurement] = []
    console.width = max(console.width, WIDTH)
    for part in parts:
        console.print(f"[bold]{part}[/]: {PARTS[part]}", highlight=False)
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "measurements.json"
            command = [sys.executable, "-m", "benchmarks", part, "--here", "--json", str(file)]
            process = subprocess.run(command, check=False, env=environment)
            status = process.returncode or status
            entries = json.loads(file.read_text()) if file.exists() else []
        measurements = [Measurement(**entry) for entry in entries]
        console.print(table(measurements))
        every += measurements
    if output is not None:
        output.write_text(json.dumps([asdict(m) for m in every], indent=1) + "\n")
    return status


def table(measurements: list[Measurement]) -> Table:
    """The measurements as a table to print."""
    rows = Table("what", "against", "median", "quartiles", "target", "")
    for m in measurements:
        unit = f" {m.unit}" if m.unit else ""
        quartiles = "" if m.low == m.high else f"{m.low:.3g} .. {m.high:.3g}"
        verdict = ""
        if m.met is not None:
            verdict = "reached" if m.met else "NOT reached"
        rows.add_row(m.what, m.against, f"{m.value:.3g}{unit}", quartiles, m.reach, verdict)
    return rows


if __name__ == "__main__":
    raise SystemExit(main())
