"""A programme of distillers through Ray: pairs drawn by two workers, students that learn on them, and
a sweep over a key of a stage."""

import csv
import json
from pathlib import Path

import in_process
import pytest
import torch
from commands import run

from orchestrator.settings import loading
from orchestrator.store.store import Store
from orchestrator.sweeps import opening
from orchestrator.work import pairs

pytestmark = [pytest.mark.system, pytest.mark.usefixtures("shared_ray")]

EXPERIMENT = """\
name: staged
data: {name: digits}
path: {kind: kac}
model: {channels: 8, multipliers: [1], patch: 4}
teacher: {steps: 10, batch_size: 16}
distill:
  batch_size: 16
  steps: 6
  stages:
    - {kind: pairs, pairs: 48, teacher_steps: 2, intervals: [2]}
    - {kind: adversarial, name: two, pairs: 48, teacher_steps: 2, intervals: [2]}
    - {kind: adversarial, pairs: 48, teacher_steps: 2, intervals: [1], weights: two, steps: 4}
sampling: {steps: 1}
evaluation: {samples: 20, metrics: [fid]}
cluster: {workers: 2}
sweep: {max_concurrent_trials: 1, space: {distill.stages.2.weight: {grid: [0.5, 1.0]}}}
"""


@pytest.fixture(scope="module")
def staged(tmp_path_factory: pytest.TempPathFactory, shared_ray: None) -> Path:
    """A folder in which the sweep has run on two workers."""
    folder = tmp_path_factory.mktemp("staged")
    (folder / "x.yaml").write_text(EXPERIMENT)
    said = run(folder, "sweep", "x.yaml")
    assert said.returncode == 0, said.stdout + said.stderr
    return folder


def rows(folder: Path) -> list[dict[str, str]]:
    (table,) = folder.glob("runs/sweeps/staged/*/results.csv")
    return list(csv.DictReader(table.open()))


def test_every_trial_is_measured_and_what_they_share_is_made_once(staged):
    assert [row["status"] for row in rows(staged)] == ["done", "done"]
    assert [row["nfe"] for row in rows(staged)] == ["1", "1"]
    kinds = [
        json.loads(manifest.read_text())["kind"]
        for manifest in staged.glob("runs/stages/*/manifest.json")
    ]
    counts = {kind: kinds.count(kind) for kind in kinds}
    assert counts == {"reference": 2, "teacher": 1, "pairs": 1, "student": 4, "evaluation": 2}


def test_two_workers_draw_the_pairs_that_one_draws(staged, tmp_path):
    experiment = loading.load(staged / "x.yaml", [f"storage={tmp_path / 'runs'}"])
    trial = opening.make_plan(experiment, "x.yaml").trials[0]
    drawn = next(stage for stage in trial.chain if stage.kind == "pairs")
    store = Store(staged / "runs")
    there = pairs.read(drawn, store)
    (tmp_path / "runs" / "stages").mkdir(parents=True)
    teacher = store.result(drawn.parents[0].key).folder
    (tmp_path / "runs" / "stages" / drawn.parents[0].key).symlink_to(Path(str(teacher)).absolute())
    in_process.train((drawn,), experiment.data, tmp_path / "runs")
    here = pairs.read(drawn, Store(tmp_path / "runs"))
    assert torch.equal(here.ends, there.ends) and torch.equal(here.labels, there.labels)


def test_its_best_network_is_drawn_exported_and_shown(staged):
    drawn = run(staged, "sample", "staged", "--count", "4", "--out", "x.png")
    assert drawn.returncode == 0, drawn.stderr
    assert "4 images of student (adversarial), 1 step of euler" in drawn.stdout
    traced = run(staged, "export", "staged", "--format", "torchscript", "--out", "x.pt")
    assert traced.returncode == 0, traced.stderr
    again = run(staged, "sweep", "x.yaml", "--dry-run")
    assert again.returncode == 0 and "to do" not in again.stdout, again.stdout
