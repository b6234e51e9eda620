"""The sampling command on what the default sweep has trained."""

import csv

import numpy as np
import pytest
from commands import everything_below, run
from PIL import Image

from orchestrator import sample


@pytest.fixture
def in_the_sweeps_folder(default_sweep, monkeypatch):
    monkeypatch.chdir(default_sweep.cwd)
    return default_sweep


def drawn(tmp_path, *arguments):
    """The images of a run of the command within this process."""
    out = tmp_path / "x.npz"
    assert sample.main([*map(str, arguments), "--out", str(out)]) == 0
    with np.load(out) as archive:
        return archive["images"]


def student(sweep, intervals):
    """The folder of the student of so many intervals."""
    folders = (sweep.storage / "stages").iterdir()
    return next(f for f in folders if f'"label": "student {intervals}"' in (f / "manifest.json").read_text())


def test_the_command_draws_a_grid_of_a_sweeps_best_trial(default_sweep, tmp_path):
    before = everything_below(default_sweep.storage)
    said = run(default_sweep.cwd, "sample", default_sweep.folder, "--count", 6, "--out", tmp_path / "grid.png")
    assert said.returncode == 0, said.stderr
    with Image.open(tmp_path / "grid.png") as grid:
        assert grid.format == "PNG"
    with (default_sweep.folder / "results.csv").open(newline="") as f:
        best = min(csv.DictReader(f), key=lambda row: float(row["fid"]))
    assert f"6 images of {best['sampling.model']}" in said.stdout
    assert f"NFE {best['nfe']}," in said.stdout
    assert everything_below(default_sweep.storage) == before


def test_an_image_depends_on_its_seed_and_not_on_how_many_are_drawn(in_the_sweeps_folder, tmp_path):
    source = student(in_the_sweeps_folder, 4)
    few, many, other = (
        drawn(tmp_path, source, "--count", count, "--seed", seed) for count, seed in ((2, 7), (5, 7), (5, 8))
    )
    assert few.dtype == np.uint8
    assert few.shape == (2, 8, 8, 1)
    # one batch or another may round differently, by at most one of 255 levels
    assert np.abs(few.astype(int) - many[:2].astype(int)).max() <= 1
    assert (many != other).any()


def test_labels_are_taken_in_turn(in_the_sweeps_folder, tmp_path):
    source = student(in_the_sweeps_folder, 1)
    turn, threes = (drawn(tmp_path, source, "--count", 4, "--labels", labels) for labels in ("3,7", "3"))
    same = [bool((np.abs(a.astype(int) - b.astype(int)) <= 1).all()) for a, b in zip(turn, threes, strict=True)]
    assert same[0] and same[2]
    assert not (same[1] and same[3])


def test_every_way_to_name_a_student_draws_the_same_images(in_the_sweeps_folder, tmp_path):
    folder = in_the_sweeps_folder.folder
    with (folder / "results.csv").open(newline="") as f:
        trial = next(
            row["trial"]
            for row in csv.DictReader(f)
            if (row["sampling.model"], row["sampling.steps"]) == ("student", "2")
        )
    by_stage = drawn(tmp_path, student(in_the_sweeps_folder, 2), "--count", 3)
    by_trial = drawn(tmp_path, f"{folder}:{trial}", "--count", 3)
    by_steps = drawn(tmp_path, folder, "--model", "student", "--steps", 2, "--count", 3)
    assert (by_stage == by_trial).all()
    assert (by_stage == by_steps).all()


def test_the_nfe_that_is_said_counts_solver_and_guidance(in_the_sweeps_folder, tmp_path, capsys):
    teacher = ["--model", "teacher", "--count", 2, "--steps", 3]
    for solver, guidance, nfe in (("euler", 1.0, 3), ("heun", 1.0, 6), ("euler", 2.0, 6), ("rk4", 2.0, 24)):
        drawn(tmp_path, in_the_sweeps_folder.folder, *teacher, "--solver", solver, "--guidance", guidance)
        assert f"NFE {nfe}," in capsys.readouterr().out


@pytest.mark.parametrize("arguments, words", [
    (["--count", "0"], ["--count", "at least 1"]),
    (["--seed", "-1"], ["--seed"]),
    (["--labels", "a"], ["--labels", "3,7"]),
    (["--labels", "11"], ["sampling.labels", "0 to 9"]),
    (["--model", "student", "--steps", "3"], ["sampling.steps", "20, 4, 2, 1"]),
    (["--out", "x.gif"], ["--out", ".png or .npz"]),
    (["--out", "nowhere/x.png"], ["--out", "nowhere"]),
])  # fmt: skip
def test_what_cannot_be_drawn_is_said_and_nothing_written(in_the_sweeps_folder, tmp_path, capsys, arguments, words):
    out = [] if "--out" in arguments else ["--out", str(tmp_path / "x.png")]
    assert sample.main([str(in_the_sweeps_folder.folder), *arguments, *out]) == 2
    said = capsys.readouterr().err
    assert [word for word in words if word not in said] == []
    assert list(tmp_path.iterdir()) == []


def test_a_trial_that_the_sweep_has_not_is_refused(in_the_sweeps_folder, tmp_path, capsys):
    assert sample.main([f"{in_the_sweeps_folder.folder}:99", "--out", str(tmp_path / "x.png")]) == 2
    assert "0 to 17" in capsys.readouterr().err
