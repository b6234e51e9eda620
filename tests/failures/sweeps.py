"""One small sweep that is disturbed in many ways, and what must be true of it afterwards."""

import csv
import signal
import subprocess
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import psutil
from commands import PATIENCE, TINY, below, command, everything_below, own_environment
from mlflow import MlflowClient
from mlflow.entities import Run

SWEEP = """\
sweep:
  max_concurrent_trials: 8
  space:
    sampling.steps: {grid: [2, 4]}
"""
EXPERIMENT = (
    TINY.replace("steps: 20,", "steps: 2000,").replace("{steps: 10}", "{steps: 50}") + SWEEP
)
STARTED: list[subprocess.Popen[str]] = []  # what a test that fails may leave running; see conftest


@dataclass(frozen=True)
class Undisturbed:
    """A run to compare with, and how long it took."""

    storage: Path
    seconds: float


def start(cwd: Path, *arguments: str, **environment: str) -> subprocess.Popen[str]:
    if not (cwd / "x.yaml").exists():
        (cwd / "x.yaml").write_text(EXPERIMENT)
    process = subprocess.Popen(
        command("sweep", "x.yaml", *arguments), cwd=cwd, env={**own_environment(), **environment}, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        # a background job's is ignored
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip
    STARTED.append(process)
    return process


def finish(process: subprocess.Popen[str]) -> str:
    said, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, said
    assert "Traceback" not in said, said
    return said


def find(process: subprocess.Popen[str], name: str) -> psutil.Process:
    """The process below `process` that calls itself `name`, once it is there."""
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until and process.poll() is None:
        for each in below(process):
            try:
                if any(name in part for part in each.cmdline()[:1]):
                    return each
            except psutil.Error:
                continue
        time.sleep(0.1)
    raise AssertionError(f"no {name}: {process.communicate(timeout=5)}")


def rows(storage: Path, name: str = "tiny") -> list[dict[str, str]]:
    (table,) = (storage / "sweeps" / name).glob("*/results.csv")
    with table.open(newline="") as f:
        return list(csv.DictReader(f))


def mlflow_runs(uri: str) -> list[Run]:
    """What MLflow has of the experiment."""
    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name("tiny")
    return list(client.search_runs([experiment.experiment_id])) if experiment else []


def logged(storage: Path, uri: str | None = None) -> Counter[tuple[str, str]]:
    """How many runs of each kind and status the embedded database, or the server at `uri`, has."""
    runs = mlflow_runs(uri or f"sqlite:///{storage / 'mlflow.db'}")
    return Counter((r.data.tags["kind"], r.info.status) for r in runs)


def results(storage: Path) -> dict[str, bytes | None]:
    """Everything in the store that does not say when or how fast it was made."""
    timed = ("manifest.json", "metrics.json", "system.json")
    return {k: v for k, v in everything_below(storage / "stages").items() if not k.endswith(timed)}


def left_over(cwd: Path) -> list[psutil.Process]:
    """Processes that work in `cwd` or below, after those that were told to end have had time to."""

    def works_there(process: psutil.Process) -> bool:
        try:
            return Path(process.cwd()).is_relative_to(cwd)
        except psutil.Error:
            return False

    until = time.monotonic() + PATIENCE
    while (
        found := [p for p in psutil.process_iter() if works_there(p)]
    ) and time.monotonic() < until:
        time.sleep(0.5)
    return found


def assert_equal(storage: Path, undisturbed: Undisturbed) -> None:
    """The sweep is whole, as if nothing had disturbed it, and nothing else is left."""
    assert results(storage) == results(undisturbed.storage)
    names = ("trial", "status", "nfe", "fid", "fid_features", "seed", "error")
    found, expected = (
        [{k: row[k] for k in names} for row in rows(s)] for s in (storage, undisturbed.storage)
    )
    assert found == expected
    assert logged(storage) == logged(undisturbed.storage)
    assert not list((storage / "work").glob("*"))
    assert not list((storage / "ray").glob("*"))
    assert left_over(storage.parent) == []
