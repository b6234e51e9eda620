"""Twelve trials of the default experiment, two seeds side by side on two cores, against what their
stages take."""

import json
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil

from benchmarks.measure import EXPERIMENT, Figure, environment, spread

START = 45.0  # seconds that Ray and the worker groups may take to start
SETTINGS = [
    "sweep.space={seed: {grid: [0, 1]}, sampling.model: {grid: [teacher, student]}, "
    "sampling.steps: {grid: [1, 2, 4, 20]}}",
    "sweep.constraints=[\"not (sampling.model == 'teacher' and sampling.steps < 4)\"]",
    "sampling.model=teacher",
    "distill.steps=[150, 500, 500, 700]",
    "teacher.steps=1200",
]


def figures() -> Iterator[Figure]:
    """Wall time against the stages' own, and the most memory that the driver and a worker held."""
    with tempfile.TemporaryDirectory() as folder:
        given = [word for each in SETTINGS for word in ("--set", each)]
        command = [sys.executable, "-m", "orchestrator.sweep", str(EXPERIMENT), *given]
        began, held = time.perf_counter(), {"driver": 0.0, "worker": 0.0}
        with Path(folder, "said").open("w") as said:
            process = psutil.Popen(command, cwd=folder, env=environment(), stdout=said, stderr=said)
            while process.poll() is None:
                _look(process, held)
                time.sleep(1.0)
        wall = time.perf_counter() - began
        if process.returncode:
            raise RuntimeError(Path(folder, "said").read_text())
        stages = [
            json.loads(path.read_text())
            for path in Path(folder).glob("runs/stages/*/manifest.json")
        ]
    own = sum(stage["seconds"] for stage in stages) / 2
    yield Figure("sweep", f"12 trials, {len(stages)} stages", "", *spread([wall]), "s")
    yield Figure("sweep", "their stages' own seconds, by two", "", *spread([own]), "s")
    over = spread([(wall - START) / own])
    yield Figure("sweep", f"all but {START:.0f} s for starting", "these", *over, "times", "<= 1.08")
    yield Figure(
        "sweep", "the driver's memory (PSS)", "", *spread([held["driver"]]), "MB", "<= 600"
    )
    yield Figure("sweep", "a worker's memory (PSS)", "", *spread([held["worker"]]), "MB", "<= 1200")


def _look(process: psutil.Popen, held: dict[str, float]) -> None:
    with suppress(psutil.Error):
        held["driver"] = max(held["driver"], process.memory_full_info().pss / 1e6)
        for each in process.children(recursive=True):
            with suppress(psutil.Error, IndexError):
                if "RayTrainWorker" in each.cmdline()[0]:
                    held["worker"] = max(held["worker"], each.memory_full_info().pss / 1e6)
