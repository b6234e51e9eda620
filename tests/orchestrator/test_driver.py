"""What the process that a researcher starts takes of the machine: it plans, waits and publishes, and trains nothing."""

import json
import shutil
import subprocess
import sys

from commands import PATIENCE, own_environment
from conftest import SweepRun

from kaccore.data import load
from orchestrator.config import Data
from orchestrator.identity import identity

DRIVER = """\
import sys
from orchestrator import sweep
status = sweep.main(sys.argv[1:])
print("ended with", status, "torch" in sys.modules, "ray" in sys.modules, "mlflow" in sys.modules)
"""


def test_a_sweeps_driver_runs_trials_reports_publishes_and_registers_without_torch(default_sweep, tmp_path):
    shutil.copytree(default_sweep.storage, tmp_path / "runs")
    again = SweepRun(tmp_path, default_sweep.arguments, default_sweep.said)
    lost = next(
        path.parent for path in (again.storage / "stages").glob("*/metrics.json")
        if json.loads((path.parent / "manifest.json").read_text())["kind"] == "evaluation"
    )  # fmt: skip
    shutil.rmtree(lost)
    (again.storage / "mlflow.db").unlink()  # so that everything is published anew
    shutil.rmtree(again.storage / "mlartifacts")
    said = subprocess.run(
        [sys.executable, "-c", DRIVER, *again.arguments], cwd=tmp_path, env=own_environment(), capture_output=True,
        text=True, timeout=PATIENCE,
    )  # fmt: skip
    assert said.stdout.splitlines()[-1] == "ended with 0 False True True", said.stdout + said.stderr
    assert (lost / "metrics.json").is_file()
    assert list((again.storage / "mlartifacts").rglob("facts.json"))  # of the registered model


def test_what_a_driver_knows_of_its_data_is_what_the_data_say():
    for name in ("digits", "mnist", "grid9"):
        data = load(name)
        assert identity(Data(name=name)) == (data.fingerprint, data.classes)
