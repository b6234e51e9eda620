"""What the processes that train nothing take of the machine: the one that a researcher starts,
which plans, waits and publishes, and those that look after a worker group."""

import json
import shutil
import subprocess
import sys

import psutil
import pytest
from commands import PATIENCE, TINY, below, command, kill_all, own_environment, wait_for
from conftest import SweepRun
from stages import data_block

from kaccore.data import load
from orchestrator.plan.data import read

DRIVER = """\
import sys
from orchestrator import sweep
status = sweep.main(sys.argv[1:])
print("ended with", status, "torch" in sys.modules, "ray" in sys.modules, "mlflow" in sys.modules)
"""


@pytest.mark.usefixtures("on_shared_ray")
def test_a_sweeps_driver_runs_trials_reports_publishes_and_registers_without_torch(
    default_sweep, tmp_path
):
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
        known = read(data_block(name=name))
        assert (known.fingerprint, known.class_names) == (data.fingerprint, data.class_names)
        assert (known.count, known.channels, known.size) == (len(data), data.channels, data.size)
        assert (
            data.labels is not None
            and known.labels is not None
            and known.labels.tolist() == data.labels.tolist()
        )


@pytest.mark.system
def test_beside_a_worker_group_there_are_few_processes_and_none_with_torch(tmp_path):
    (tmp_path / "x.yaml").write_text(TINY)
    driver = subprocess.Popen(
        command("train", "x.yaml", "--set", "teacher.steps=1000000"), cwd=tmp_path, env=own_environment(),
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        wait_for("runs/work/*/progress.json", tmp_path, driver)
        processes = {name: process for process in below(driver) if (name := called(process))}
        assert {name.partition(".")[0] for name in processes} == {
            "ray::ImplicitFunc", "ray::SynchronizationActor", "ray::RayTrainWorker", "ray::DashboardAgent",
            "ray::RuntimeEnvAgent",
        }  # fmt: skip
        with_torch = [name for name, process in processes.items() if has_torch(process)]
        assert len(with_torch) == 1 and with_torch[0].startswith("ray::RayTrainWorker")
    finally:
        kill_all(driver)


def called(process: psutil.Process) -> str:
    """What Ray calls a process; empty where it is none of its Python processes, or has ended."""
    try:
        said = process.cmdline()
    except psutil.NoSuchProcess:
        return ""
    return said[0].split()[0] if said and said[0].startswith("ray::") else ""


def has_torch(process: psutil.Process) -> bool:
    return any("libtorch" in mapped.path for mapped in process.memory_maps())
