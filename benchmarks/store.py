"""The cost of the store's records: `python -m benchmarks.store`. Compare within one run: machines
differ."""

import subprocess
import sys
import tempfile
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table

from orchestrator.plan.plan import Plan, alike, make
from orchestrator.settings.loading import parse
from orchestrator.store.store import Store
from orchestrator.sweeps.records import Records

STAGES = 1000
TRIALS = (50, 100, 200, 400)
COORDINATOR = """
import orchestrator.execution.coordinator
status = open("/proc/self/smaps_rollup").read()
print(next(int(line.split()[1]) for line in status.splitlines() if line.startswith("Pss:")) / 1e3)
"""


def plan(trials: int) -> Plan:
    """A sweep of so many `trials`, all evaluations of one teacher."""
    space = {"space": {"sampling.steps": {"grid": list(range(1, trials + 1))}}}
    config = {
        "name": "bench",
        "data": {"name": "digits"},
        "path": {"kind": "kac"},
        "sampling": {"model": "teacher"},
    }
    return make(parse({**config, "sweep": space}), alike("fingerprint", "digits-cnn-v1"))


def finish(records: Records) -> None:
    """Put a result of every stage into the store."""
    for stage in records.plan.stages():
        if not records.store.done(stage.key):
            folder = records.store.gather(stage)
            (folder / "metrics.json").write_text(
                '{"fid": 1.0, "fid_features": "digits-cnn-v1", "nfe": 4}'
            )
            (folder / "samples.png").write_bytes(b"")
            (folder / "losses.json").write_text('[{"step": 1, "loss": 1.0, "lr": 0.1}]')
            (folder / "system.json").write_text("[]")
            records.store.publish(stage, folder, 0.0)


def main() -> None:
    """Measure and print."""
    table = Table("what", "here")
    with tempfile.TemporaryDirectory() as folder:
        store, swept = Store(folder), plan(STAGES)
        records = Records(swept, store)
        finish(records)
        began = time.perf_counter()
        done = sum(store.done(stage.key) for stage in swept.stages())
        table.add_row(f"look up {done} finished stages", f"{time.perf_counter() - began:.3f} s")
    for count in TRIALS:
        with tempfile.TemporaryDirectory() as folder:
            records = Records(plan(count), Store(Path(folder)))
            records.open()
            finish(records)
            began = time.perf_counter()
            for trial in records.plan.trials:
                records.end(trial.index, "done")
            milliseconds = 1e3 * (time.perf_counter() - began) / count
            table.add_row(f"record the end of a trial, one of {count}", f"{milliseconds:.1f} ms")
    coordinator = subprocess.run(
        [sys.executable, "-c", COORDINATOR], capture_output=True, text=True, check=True
    )
    memory = float(coordinator.stdout)
    table.add_row("memory of a waiting coordinator's imports (PSS)", f"{memory:.0f} MB")
    Console().print(table)


if __name__ == "__main__":
    main()
