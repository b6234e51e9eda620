"""What it costs a group of workers to change its size: the seconds from the last step of one size to
the first step of the next, and the steps that are trained twice.

A head without CPUs and nodes of one CPU each are raylets of this machine. A node joins in the middle
of a training, and then one is lost."""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from benchmarks.measure import EXPERIMENT, Measurement, environment, spread

SETTINGS = ("teacher.steps=6000", "checkpoint.steps=100", "cluster.workers={min: 1, max: 2}")
PATIENCE = 600.0


def measurements() -> Iterator[Measurement]:
    """One training that grows and shrinks."""
    os.environ["RAY_AUTH_MODE"] = "disabled"
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    with tempfile.TemporaryDirectory() as folder:
        try:
            cluster.add_node(num_cpus=1)
            driver = _training(Path(folder), cluster.address)
            seen = Watched(Path(folder))
            seen.until(lambda now: now["step"] > 300)
            joining = time.monotonic()
            joined = cluster.add_node(num_cpus=1)
            grown = seen.until(lambda now: now["workers"] == 2)
            yield from _changed("a node joins", joining, grown)
            seen.until(lambda now: now["step"] > grown.first + 300)
            losing = time.monotonic()
            cluster.remove_node(joined, allow_graceful=False)
            shrunk = seen.until(lambda now: now["workers"] == 1)
            yield from _changed("a node is lost", losing, shrunk)
            driver.terminate()
            driver.wait(PATIENCE)
        finally:
            cluster.shutdown()


class Change:
    """What was seen of a training on both sides of a change: the last `step` before it and when, the
    `first` one after it and when."""

    def __init__(self, step: int, at: float, first: int, again: float) -> None:
        self.step, self.at, self.first, self.again = step, at, first, again


class Watched:
    """The progress of the only training of a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._last: dict[str, Any] = {"step": 0, "workers": 1}
        self._at = time.monotonic()

    def until(self, happened: Callable[[dict[str, Any]], bool]) -> Change:
        """Wait for a progress of which this is true."""
        while time.monotonic() - self._at < PATIENCE:
            for file in self._folder.glob("runs/work/*/progress.json"):
                now = json.loads(file.read_text())
                if "step" not in now or now == self._last:
                    continue
                before, at = self._last, self._at
                self._last, self._at = now, time.monotonic()
                if happened(now):
                    return Change(before["step"], at, now["step"], self._at)
            time.sleep(0.05)
        raise TimeoutError("the training makes no progress")


def _training(folder: Path, address: str) -> subprocess.Popen[bytes]:
    given = [word for setting in SETTINGS for word in ("--set", setting)]
    command = [sys.executable, "-m", "orchestrator.train", str(EXPERIMENT), *given]
    return subprocess.Popen(
        [*command, "--address", address], cwd=folder, env=environment(), stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )  # fmt: skip


def _changed(what: str, since: float, change: Change) -> Iterator[Measurement]:
    def row(name: str, value: float, unit: str) -> Measurement:
        return Measurement("resizing", f"{what}: {name}", "", *spread([value]), unit)

    yield row("until the group has its new size", change.again - since, "s")
    yield row("of which without a step", change.again - change.at, "s")
    yield row("steps trained twice", max(0, change.step - change.first), "steps")
