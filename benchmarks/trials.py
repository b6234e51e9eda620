"""The cost of a trial whose stages are all finished, in Ray Tune, MLflow and the report: `python -m
benchmarks.trials`, or with other numbers of trials, `python -m benchmarks.trials 100 1000`."""

import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import psutil
from rich.console import Console
from rich.table import Table

from benchmarks.store import finish, plan
from orchestrator.console import conclusion
from orchestrator.execution.trials import run_trials
from orchestrator.store.store import Store
from orchestrator.sweeps.records import Records
from orchestrator.tracking.publisher import Publisher

TRIALS = (50, 100, 200)


class Memory:
    """The peak memory (PSS, in MB) of one coordinator and of this process, the driver, inside the
    block."""

    def __init__(self) -> None:
        self.coordinator = self.driver = 0.0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._measure, daemon=True)

    def __enter__(self) -> "Memory":
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._stop.set()
        self._thread.join()

    def _measure(self) -> None:
        me = psutil.Process()
        while not self._stop.wait(5.0):  # reading it takes time, too
            self.driver = max(self.driver, me.memory_full_info().pss / 1e6)
            for child in me.children(recursive=True):
                try:
                    if "ImplicitFunc" in child.cmdline()[0]:
                        self.coordinator = max(self.coordinator, child.memory_full_info().pss / 1e6)
                except (psutil.Error, IndexError):
                    continue


@dataclass
class Costs:
    """Seconds in Ray, with its start and end, in the report and in MLflow; the report's size in
    megabytes; the peak memory."""

    ray: float
    report: float
    mlflow: float
    megabytes: float
    memory: Memory


def measure(count: int) -> Costs:
    """The cost of running `count` finished trials again."""
    with tempfile.TemporaryDirectory() as folder:
        records = Records(plan(count), Store(Path(folder)))
        records.open()
        finish(records)
        with Memory() as memory:
            began = time.perf_counter()
            run_trials(records, None, lambda: None)  # without publishing, which is measured below
            ray = time.perf_counter() - began
            assert all(ending.status == "done" for ending in records.endings)
            began = time.perf_counter()
            conclusion.write(records)
            report = time.perf_counter() - began
            began, publisher = time.perf_counter(), Publisher(records)
            publisher.finish("FINISHED")
            assert not publisher.problem, publisher.problem
            mlflow = time.perf_counter() - began
        return Costs(
            ray, report, mlflow, len((records.folder / "report.html").read_bytes()) / 1e6, memory
        )


def main() -> None:
    """Measure and print."""
    table = Table(
        "trials", "seconds in Ray", "ms a further trial", "MB a coordinator", "MB the driver", "seconds the report",
        "MB the report", "seconds MLflow",
    )  # fmt: skip
    before = (0, 0.0)
    for count in map(int, sys.argv[1:] or TRIALS):
        costs = measure(count)
        further = ""
        if before[0]:
            further = f"{1e3 * (costs.ray - before[1]) / (count - before[0]):.0f}"
        table.add_row(
            str(count), f"{costs.ray:.1f}", further, f"{costs.memory.coordinator:.0f}", f"{costs.memory.driver:.0f}",
            f"{costs.report:.1f}", f"{costs.megabytes:.1f}", f"{costs.mlflow:.1f}",
        )  # fmt: skip
        before = (count, costs.ray)
    Console().print(table)


if __name__ == "__main__":
    main()
