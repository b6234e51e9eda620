"""A sweep that draws its trials while others end, through the real command; parts and budgets of
sweeps."""

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from commands import TINY, manifests, run, run_here

pytestmark = [pytest.mark.system, pytest.mark.usefixtures("shared_ray")]

SWEEP = """\
sweep:
  search: optuna
  num_trials: 3
  max_concurrent_trials: 2
  constraints: [damping * 1 >= speed]
  space:
    path.damping: {loguniform: [5, 50]}
    sampling.steps: {grid: [2, 4]}
"""
GRID = """\
sweep:
  space:
    sampling.steps: {grid: [2, 4]}
    sampling.guidance: {grid: [1.0]}
"""


def sweep_folder(cwd: Path) -> Path:
    (folder,) = (cwd / "runs" / "sweeps" / "tiny").iterdir()
    return folder


def rows(cwd: Path) -> list[dict[str, str]]:
    with (sweep_folder(cwd) / "results.csv").open(newline="") as f:
        return list(csv.DictReader(f))


def points(cwd: Path) -> list[dict[str, Any]]:
    return list(json.loads((sweep_folder(cwd) / "plan.json").read_text())["points"])


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    cwd = tmp_path_factory.mktemp("drawn")
    (cwd / "x.yaml").write_text(TINY + SWEEP)
    said = run(cwd, "sweep", "x.yaml")
    assert said.returncode == 0, said.stdout + said.stderr
    return cwd


def test_as_many_points_are_drawn_as_asked_for_each_with_the_whole_grid(drawn):
    """A minute for the sweep: three points, the third drawn after another was measured, of which each
    trains a teacher and two students and is sampled twice."""
    found = rows(drawn)
    assert [row["status"] for row in found] == ["done"] * 6
    assert [row["sampling.steps"] for row in found] == ["2", "4"] * 3
    assert len({row["path.damping"] for row in found}) == len(points(drawn)) == 3
    assert all(float(row["fid"]) > 0 for row in found)


def test_the_same_command_finds_it_done_and_asking_for_more_goes_on(drawn, tmp_path):
    drawn = shutil.copytree(drawn, tmp_path / "copy")  # other tests look at what there was before
    before, known = manifests(drawn / "runs"), points(drawn)
    said = run_here(drawn, "sweep", "x.yaml", "--dry-run")
    assert "6 trials" in said.stdout and "to do" not in said.stdout
    said = run(drawn, "sweep", "x.yaml", "--set", "sweep.num_trials=4")
    assert said.returncode == 0, said.stdout + said.stderr
    assert points(drawn)[:3] == known and len(points(drawn)) == 4
    after = manifests(drawn / "runs")
    assert {key: after[key] for key in before} == before
    assert [row["status"] for row in rows(drawn)] == ["done"] * 8
    assert run_here(drawn, "report", sweep_folder(drawn)).returncode == 0


def test_another_sweep_learns_from_it(drawn):
    other = ["--set", "name=other", "--set", "sweep.learn_from=[tiny]", "--dry-run"]
    said = run_here(drawn, "sweep", "x.yaml", *other)
    assert said.returncode == 0, said.stdout + said.stderr
    other = [word.replace("[tiny]", "[tiny, nosuch]") for word in other]
    said = run_here(drawn, "sweep", "x.yaml", *other)
    assert said.returncode == 2
    assert (
        "sweep.learn_from: got nosuch, expected a sweep of" in said.stderr
        and ": tiny" in said.stderr
    )


def test_only_a_part_of_a_grid_and_what_a_budget_leaves(tmp_path):
    (tmp_path / "x.yaml").write_text(TINY + GRID)
    said = run(tmp_path, "sweep", "x.yaml", "--set", "sweep.max_core_hours=1.0e-9", "--set",
               "sweep.max_concurrent_trials=1")  # fmt: skip
    assert said.returncode == 0, said.stdout + said.stderr
    assert [row["status"] for row in rows(tmp_path)] == ["done", "not started"]
    assert "1 trials not started: sweep.max_core_hours: 1e-09 core hours are used up" in said.stdout
    said = run_here(tmp_path, "sweep", "x.yaml", "--only", "sampling.steps=2")
    assert said.returncode == 0, said.stdout + said.stderr
    assert sorted(row["status"] for row in rows(tmp_path)) == ["done", "not started"]
    assert run(tmp_path, "sweep", "x.yaml").returncode == 0
    assert [row["status"] for row in rows(tmp_path)] == ["done", "done"]


@pytest.mark.parametrize(
    ("only", "message"),
    [
        (
            "sampling.steps=3",
            "--only sampling.steps=3: sampling.steps: got 3, which no trial has, expected some of 2",
        ),
        (
            "path.damping=25.0",
            "path.damping: expected a key of sweep.space: sampling.steps, sampling.guidance",
        ),
        ("sampling.steps", "expected KEY=VALUE"),
    ],
)
def test_a_part_that_is_none_is_refused(tmp_path, only, message):
    (tmp_path / "x.yaml").write_text(TINY + GRID)
    said = run_here(tmp_path, "sweep", "x.yaml", "--only", only)
    assert said.returncode == 2 and message in said.stderr
    assert not (tmp_path / "runs").exists()
