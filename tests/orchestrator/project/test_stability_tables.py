"""The tables of docs/stability.md and docs/rivals.md, from stores in which the shipped experiments seem
to have run."""

from pathlib import Path
from typing import Any

import pytest
import stability_tables
from commands import REPOSITORY
from made_up import made, measured

from orchestrator.plan.plan import Trial, alike, make
from orchestrator.settings.loading import load

EXPERIMENTS = REPOSITORY / "experiments"


def fid(trial: Trial) -> float:
    """Twice as large on the Kac path."""
    return (2.0 if trial.config.path.kind == "kac" else 1.0) * trial.config.sampling.guidance


def measure(trial: Trial) -> dict[str, Any]:
    value = fid(trial)
    gaps = {"gap_at_ends": value, "gap_on_the_way": value, "gap_bound": 4 * value}
    student = trial.config.sampling.model == "student"
    return {
        **measured(trial),
        "fid": value, "fid_second": value / 2, "fid_second_features": "others", "recall": 0.5, "precision": 0.5,
        "out_of_range_fraction": 0.25, "largest_velocity": 3.0,
        **({"light_cone_violations": 0.0} if trial.config.path.kind == "kac" else {}),
        **(gaps if student else {}),
    }  # fmt: skip


def said(name: str, root: Path, capsys: pytest.CaptureFixture[str]) -> list[str]:
    """What is printed of one experiment, with few values of each setting."""
    experiment = load(EXPERIMENTS / f"{name}.yaml")
    made(root, make(experiment, alike("fingerprint", "digits-cnn-v1"), "sweep"), measure)
    stability_tables.main(str(root))
    return capsys.readouterr().out.splitlines()


def test_teachers_stand_by_guidance_and_by_solver(tmp_path, capsys):
    lines = said("stability", tmp_path, capsys)
    assert "| 4.0 | 8 | 4 | 4 | 4 | 2 | 2 | 0.5 | 0.5 | 0.5 |" in lines
    assert "| heun | 20 | 2 | 1 | 1 | 1 | 0.5 | 0.5 |" in lines
    assert "light cone: 80 Kac trials, largest share 0" in lines
    assert "(no sweep rivals)" in lines


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("rivals", "| pairs | 1 | 2 | 1 | 1 | 1 | 0.5 | 0.5 |"),
        ("rivals", "| all | 63 | 1.000 | 1.000 | 1.000 | 0.25 |"),
        ("stability/students", "| 8.0 | 4 | 0.25 | 0.25 | 0.25 | 2 | 1 | 1 |"),
        ("stability/training", "trials: {'done': 48}"),
        ("stability/sharp", "| euler | 50 | 2 | 1 | 1 | 1 | 0.5 | 0.5 |"),
        ("stability/width", "| kac | 1.0 | 9.0 | 20 | 2 | 1 | 0.5 |"),
    ],
)
def test_each_sweep_has_its_tables(tmp_path, capsys, name, line):
    assert line in said(name, tmp_path, capsys)
