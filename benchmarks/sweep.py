"""Twelve trials of the default experiment, two seeds in parallel on two cores, against the time of
their stages."""

import json
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil

from benchmarks.measure import EXPERIMENT, Measurement, environment, spread

START = 45.0  # seconds that Ray and the worker groups may take to start
SETTINGS = [
    "sweep.space={seed: {grid: [0, 1]}, sampling.model: {grid: [teacher, student]}, "
    "sampling.steps: {grid: [1, 2, 4, 20]}}",
    "sweep.constraints=[\"not (sampling.model == 'teacher' and sampling.steps < 4)\"]",
    "sampling.model=teacher",
    "distill.steps=[150, 500, 500, 700]",
    "teacher.steps=1200",
]


def measurements() -> Iterator[Measurement]:
    """Wall time against the stages' own seconds, and the peak memory of the driver and a worker."""
    with tempfile.TemporaryDirectory() as folder:
        given = [word for setting in SETTINGS for word in ("--set", setting)]
        command = [sys.executable, "-m", "orchestrator.sweep", str(EXPERIMENT), *given]
        began, peak = time.perf_counter(), {"driver": 0.0, "worker": 0.0}
        with Path(folder, "output").open("w") as output:
            process = psutil.Popen(
                command, cwd=folder, env=environment(), stdout=output, stderr=output
            )
            while process.poll() is None:
                _update_memory(process, peak)
                time.sleep(1.0)
        wall = time.perf_counter() - began
        if process.returncode:
            raise RuntimeError(Path(folder, "output").read_text())
        stages = [
            json.loads(path.read_text())
            for path in Path(folder).glob("runs/stages/*/manifest.json")
        ]
    own = sum(stage["seconds"] for stage in stages) / 2
    yield Measurement("sweep", f"12 trials, {len(stages)} stages", "", *spread([wall]), "s")
    yield Measurement("sweep", "their stages' own seconds, by two", "", *spread([own]), "s")
    over = spread([(wall - START) / own])
    yield Measurement(
        "sweep", f"all but {START:.0f} s for starting", "these", *over, "times", "<= 1.08"
    )
    yield Measurement(
        "sweep", "the driver's memory (PSS)", "", *spread([peak["driver"]]), "MB", "<= 600"
    )
    yield Measurement(
        "sweep", "a worker's memory (PSS)", "", *spread([peak["worker"]]), "MB", "<= 1200"
    )


def _update_memory(process: psutil.Popen, peak: dict[str, float]) -> None:
    with suppress(psutil.Error):
        peak["driver"] = max(peak["driver"], process.memory_full_info().pss / 1e6)
        for child in process.children(recursive=True):
            with suppress(psutil.Error, IndexError):
                if "RayTrainWorker" in child.cmdline()[0]:
                    peak["worker"] = max(peak["worker"], child.memory_full_info().pss / 1e6)
