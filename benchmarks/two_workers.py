"""Ray Train with two workers of one core each against one worker of two cores, for the same batch and
the same result."""

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import torch
from safetensors.torch import load_file

from benchmarks.measure import EXPERIMENT, Measurement, environment, spread

STEPS = 400


def measurements() -> Iterator[Measurement]:
    """Seconds of the training loop alone, from the store."""
    with tempfile.TemporaryDirectory() as folder:
        two, one = (_teacher(Path(folder) / str(workers), workers) for workers in (2, 1))
        apart = max(float((two[1][name] - one[1][name]).abs().max()) for name in one[1])
    yield Measurement(
        "two_workers", "two workers of one core", "one of two", *spread([two[0] / one[0]]), "times"
    )
    yield Measurement("two_workers", "largest difference of their weights", "", *spread([apart]))
    images = 64 * STEPS
    yield Measurement("two_workers", "two workers", "", *spread([images / two[0]]), "images/s")
    yield Measurement("two_workers", "one worker", "", *spread([images / one[0]]), "images/s")


def _teacher(folder: Path, workers: int) -> tuple[float, dict[str, torch.Tensor]]:
    """Seconds and weights of a short teacher of the default experiment."""
    folder.mkdir()
    settings = {
        "teacher.steps": STEPS,
        "cluster.workers": workers,
        "cluster.cpus_per_worker": 2 // workers,
    }
    given = [word for key, value in settings.items() for word in ("--set", f"{key}={value}")]
    command = [sys.executable, "-m", "orchestrator.train", str(EXPERIMENT), *given]
    subprocess.run(command, cwd=folder, env=environment(), check=True, capture_output=True)
    (manifest,) = folder.glob("runs/stages/*/manifest.json")
    (weights,) = manifest.parent.rglob("model.safetensors")
    return json.loads(manifest.read_text())["seconds"], load_file(weights)
