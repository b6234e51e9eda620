import csv
import json
import subprocess
from collections import Counter
from pathlib import Path

import pytest
from commands import TINY, manifests, run, run_here
from mlflow import MlflowClient

pytestmark = [pytest.mark.system, pytest.mark.usefixtures("shared_ray")]

SWEEP = """\
sweep:
  max_concurrent_trials: 1
  space:
    teacher.lr: {grid: [2.0e-3, 1.0e+30]}
    sampling.model: {grid: [teacher]}
"""


@pytest.fixture(scope="module")
def half_failed(
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[Path, subprocess.CompletedProcess[str]]:
    """A sweep of which one trial diverges, run in a folder of its own."""
    cwd = tmp_path_factory.mktemp("failing")
    (cwd / "x.yaml").write_text(
        TINY.replace("batch_size: 16}", "batch_size: 16, schedule: constant}", 1) + SWEEP
    )
    return cwd, run(cwd, "sweep", "x.yaml")


def rows(cwd: Path) -> list[dict[str, str]]:
    (table,) = (cwd / "runs" / "sweeps" / "tiny").glob("*/results.csv")
    with table.open(newline="") as f:
        return list(csv.DictReader(f))


def trial_runs(cwd: Path) -> dict[str, str]:
    """Status by trial of the runs that MLflow has."""
    client = MlflowClient(f"sqlite:///{cwd / 'runs' / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("tiny")
    assert experiment is not None
    found = client.search_runs([experiment.experiment_id], "tags.kind = 'trial'")
    return {r.data.tags["trial"]: r.info.status for r in found}


def test_a_sweep_with_a_failed_trial_ends_with_status_1(half_failed):
    _, said = half_failed
    assert said.returncode == 1, said.stdout + said.stderr


def test_the_other_trial_is_finished_and_kept(half_failed):
    cwd, _ = half_failed
    good, bad = rows(cwd)
    assert (good["status"], good["error"]) == ("done", "")
    assert float(good["fid"]) > 0
    assert (bad["status"], bad["fid"], bad["samples"]) == ("failed", "", "")
    kinds = Counter(json.loads(m)["kind"] for m in manifests(cwd / "runs").values())
    assert kinds == {"teacher": 1, "reference": 2, "evaluation": 1}


def test_the_cause_comes_first_with_the_step_and_the_loss(half_failed):
    cwd, said = half_failed
    _, bad = rows(cwd)
    for text in (
        bad["error"],
        next(line for line in said.stdout.splitlines() if line.startswith("trial 1 failed: ")),
    ):
        assert "teacher, lr 1e+30: NonFiniteLossError: loss is " in text
        assert " at step " in text
        assert "1e+30" in text
    assert bad["error"].startswith("teacher, lr 1e+30: NonFiniteLossError: loss is ")
    assert "Traceback" not in said.stdout + said.stderr


def test_a_failure_that_would_come_again_is_final_and_keeps_its_trace(half_failed):
    cwd, _ = half_failed
    (file,) = (cwd / "runs" / "work").glob("*/failure.json")
    failure = json.loads(file.read_text())
    assert failure["final"] is True
    assert "Traceback (most recent call last)" in failure["traceback"]


def test_mlflow_has_the_failed_and_the_finished_trial(half_failed):
    cwd, _ = half_failed
    assert trial_runs(cwd) == {"0": "FINISHED", "1": "FAILED"}


def test_a_report_made_again_keeps_the_failed_trial_and_its_cause(half_failed):
    cwd, _ = half_failed
    (folder,) = (cwd / "runs" / "sweeps" / "tiny").iterdir()
    before = rows(cwd)
    again = run_here(cwd, "report", folder, "--publish")
    assert again.returncode == 0, again.stdout + again.stderr
    assert "trial 1 failed: teacher, lr 1e+30: NonFiniteLossError" in again.stdout
    assert rows(cwd) == before
    assert trial_runs(cwd) == {"0": "FINISHED", "1": "FAILED"}
