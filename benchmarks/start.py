"""Commands against the imports that they need, each in a new process."""

import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from benchmarks.measure import EXPERIMENT, Measurement, environment, seconds, spread

REPEATS = 3
RAY_TRAIN = """
import torch, ray, mlflow
from functools import partial
from pathlib import Path
from ray.train import RunConfig, ScalingConfig
from ray.train.torch import TorchTrainer
ray.init(include_dashboard=False, log_to_driver=False, num_cpus=2)
begun = lambda: Path("begun").touch()
folder = str(Path.cwd())
TorchTrainer(lambda: Path(folder, "begun").touch(), scaling_config=ScalingConfig(num_workers=1),
             run_config=RunConfig(storage_path=folder)).fit()
"""
QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_AUTH_MODE": "disabled",
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.2",
}


def measurements() -> Iterator[Measurement]:
    """Quick commands, and the time to the first training step, compared with that of a bare Ray
    Train program to its worker's first line."""
    commands = {
        "--help": ("--help",),
        "a file that is not there": ("nothing.yaml",),
        "a wrong value": (str(EXPERIMENT), "--set", "teacher.steps=-1"),
        "--dry-run": (str(EXPERIMENT), "--dry-run"),
    }
    with tempfile.TemporaryDirectory() as folder:
        for what, arguments in commands.items():
            call = partial(_run, folder, "-m", "orchestrator.sweep", *arguments)
            took = [seconds(call) for _ in range(REPEATS)]
            yield Measurement("start", what, "", *spread(took), "s", "<= 2")
        imports = [
            seconds(lambda: _run(folder, "-c", "import torch, ray, mlflow")) for _ in range(REPEATS)
        ]
    yield Measurement("start", "import torch, ray, mlflow", "", *spread(imports), "s")
    first = [
        _until("runs/work/*/progress.json", "-m", "orchestrator.train", str(EXPERIMENT))
        for _ in range(REPEATS)
    ]
    bare = [_until("begun", "-c", RAY_TRAIN) for _ in range(REPEATS)]
    over = [a - b for a, b in zip(first, imports, strict=True)]
    yield Measurement(
        "start",
        "command to first training step, beyond these imports",
        "",
        *spread(over),
        "s",
        "<= 4",
    )
    over = [a - b for a, b in zip(bare, imports, strict=True)]
    yield Measurement(
        "start",
        "a bare Ray Train program to its worker's first line, beyond them",
        "",
        *spread(over),
        "s",
    )


def _run(folder: str, *arguments: str) -> None:
    subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env=environment(**QUIET),
        capture_output=True,
        check=False,
    )


def _until(appears: str, *arguments: str) -> float:
    """Seconds until a file that matches `appears` exists in the folder where the command runs."""
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        command, nowhere = [sys.executable, *arguments], subprocess.DEVNULL
        process = subprocess.Popen(
            command, cwd=folder, env=environment(**QUIET), stdout=nowhere, stderr=nowhere
        )
        while not list(Path(folder).glob(appears)):
            if process.poll() is not None:
                raise RuntimeError(f"{arguments}: ended with {process.returncode}")
            time.sleep(0.02)
        took = time.perf_counter() - began
        process.terminate()
        process.wait()
        return took
