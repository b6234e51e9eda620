"""The sampling command on what the default sweep has trained."""

import csv
import os
import re

import numpy as np
import pytest
import torch
from commands import everything_below, run
from PIL import Image, ImageSequence

from orchestrator import sample
from orchestrator.networks import locate
from orchestrator.networks.animation import InputRecorder
from orchestrator.store.folder import Folder


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
    """The folder of the student of so many intervals: 1, 2 or 4."""
    folders = (sweep.storage / "stages").iterdir()
    return next(
        f
        for f in folders
        if f'"label": "student adversarial {intervals}"' in (f / "manifest.json").read_text()
    )


def test_the_command_draws_a_grid_of_a_sweeps_best_trial(default_sweep, tmp_path):
    before = everything_below(default_sweep.storage)
    said = run(
        default_sweep.cwd,
        "sample",
        default_sweep.folder,
        "--count",
        6,
        "--out",
        tmp_path / "grid.png",
    )
    assert said.returncode == 0, said.stderr
    with Image.open(tmp_path / "grid.png") as grid:
        assert grid.format == "PNG"
    with (default_sweep.folder / "results.csv").open(newline="") as f:
        students = [row for row in csv.DictReader(f) if row["sampling.model"] == "student"]
    best = min(students, key=lambda row: float(row["fid"]))
    assert f"6 images of student (endpoint), {best['sampling.steps']} step" in said.stdout
    assert (
        f"trial {best['trial']} of nfe-sweep/{default_sweep.folder.name} (the best trial of a student"
        in said.stdout
    )
    assert f"NFE {best['nfe']}," in said.stdout
    assert everything_below(default_sweep.storage) == before


def test_an_image_depends_on_its_seed_and_not_on_how_many_are_drawn(in_the_sweeps_folder, tmp_path):
    source = student(in_the_sweeps_folder, 4)
    few, many, other = (
        drawn(tmp_path, source, "--count", count, "--seed", seed)
        for count, seed in ((2, 7), (5, 7), (5, 8))
    )
    assert few.dtype == np.uint8
    assert few.shape == (2, 8, 8, 1)
    # one batch or another may round differently, by at most one of 255 levels
    assert np.abs(few.astype(int) - many[:2].astype(int)).max() <= 1
    assert (many != other).any()


def test_labels_are_taken_in_turn(in_the_sweeps_folder, tmp_path):
    source = student(in_the_sweeps_folder, 1)
    turn, threes = (
        drawn(tmp_path, source, "--count", 4, "--labels", labels) for labels in ("3,7", "3")
    )
    same = [
        bool((np.abs(a.astype(int) - b.astype(int)) <= 1).all())
        for a, b in zip(turn, threes, strict=True)
    ]
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
    for solver, guidance, nfe in (
        ("euler", 1.0, 3),
        ("heun", 1.0, 6),
        ("euler", 2.0, 6),
        ("rk4", 2.0, 24),
    ):
        drawn(
            tmp_path,
            in_the_sweeps_folder.folder,
            *teacher,
            "--solver",
            solver,
            "--guidance",
            guidance,
        )
        assert f"NFE {nfe}," in capsys.readouterr().out


@pytest.mark.parametrize("arguments, words", [
    (["--count", "0"], ["--count", "at least 1"]),
    (["--seed", "-1"], ["--seed"]),
    (["--labels", "a"], ["--labels: got a, expected classes of digits", "0,1", "0, 1, 2, 3, 4, 5, 6, 7, 8, 9"]),
    (["--labels", "11"], ["sampling.labels", "0 to 9"]),
    (["--model", "student", "--steps", "3"], ["sampling.steps", "20, 4, 2, 1"]),
    (["--out", "x.jpg"], ["--out", ".png, .npz or .gif"]),
    (["--out", "nowhere/x.png"], ["--out", "nowhere"]),
    (["--out", "nowhere/x/"], ["--out", "nowhere"]),
    (["--out", "runs/"], ["--out", "runs/", "a new or an empty folder"]),
])  # fmt: skip
def test_what_cannot_be_drawn_is_said_and_nothing_written(
    in_the_sweeps_folder, tmp_path, capsys, arguments, words
):
    out = [] if "--out" in arguments else ["--out", str(tmp_path / "x.png")]
    assert sample.main([str(in_the_sweeps_folder.folder), *arguments, *out]) == 2
    said = capsys.readouterr().err
    assert [word for word in words if word not in said] == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("number", ["99", "x"])
def test_a_trial_that_the_sweep_has_not_is_refused(in_the_sweeps_folder, tmp_path, capsys, number):
    assert (
        sample.main([f"{in_the_sweeps_folder.folder}:{number}", "--out", str(tmp_path / "x.png")])
        == 2
    )
    assert "0 to 15" in capsys.readouterr().err


def rows(sweep):
    with (sweep.folder / "results.csv").open(newline="") as f:
        return list(csv.DictReader(f))


def test_a_sweep_is_found_by_its_name_and_its_id(in_the_sweeps_folder, tmp_path):
    folder = in_the_sweeps_folder.folder
    best = drawn(tmp_path, folder, "--count", 2)
    for name in ("nfe-sweep", f"nfe-sweep/{folder.name}"):
        assert (drawn(tmp_path, name, "--count", 2) == best).all()
    third = drawn(tmp_path, f"{folder}:3", "--count", 2)
    assert (drawn(tmp_path, "nfe-sweep:3", "--count", 2) == third).all()


def test_of_two_sweeps_of_one_name_the_one_that_was_run_last_is_meant(tmp_path):
    for folder, seconds in (("a", 200), ("b", 300), ("c", 100)):
        plan = tmp_path / "sweeps" / "mine" / folder / "plan.json"
        plan.parent.mkdir(parents=True)
        plan.touch()
        os.utime(plan, (seconds, seconds))
    assert locate.newest_sweep("mine", Folder(tmp_path)).name == "b"
    assert locate.newest_sweep("mine/c", Folder(tmp_path)).name == "c"


def test_mlflow_runs_of_trials_stages_and_sweeps_are_what_they_show(in_the_sweeps_folder, tmp_path):
    from mlflow import MlflowClient

    sweep = in_the_sweeps_folder
    trial = next(
        row
        for row in rows(sweep)
        if (row["sampling.model"], row["sampling.steps"]) == ("student", "4")
    )
    by_trial = drawn(tmp_path, trial["mlflow_run_id"], "--count", 2)
    assert (by_trial == drawn(tmp_path, f"{sweep.folder}:{trial['trial']}", "--count", 2)).all()
    uri = f"sqlite:///{sweep.storage / 'mlflow.db'}"
    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name("nfe-sweep").experiment_id
    folder = student(sweep, 4)
    (stage,) = client.search_runs([experiment], f"tags.stage_key = '{folder.name}'")
    assert (
        drawn(tmp_path, stage.info.run_id, "--count", 2) == drawn(tmp_path, folder, "--count", 2)
    ).all()
    (parent,) = client.search_runs([experiment], "tags.kind = 'sweep'")
    by_parent = drawn(tmp_path, parent.info.run_id, "--count", 2, "--tracking-uri", uri)
    assert (by_parent == drawn(tmp_path, sweep.folder, "--count", 2)).all()


def test_a_registered_model_is_the_best_student_of_its_sweep(in_the_sweeps_folder, tmp_path):
    from mlflow import MlflowClient

    sweep = in_the_sweeps_folder
    client = MlflowClient(f"sqlite:///{sweep.storage / 'mlflow.db'}")
    (version,) = client.search_model_versions("name = 'nfe-sweep'")
    folder = sweep.storage / "stages" / version.tags["stage_key"]
    client.set_registered_model_alias("nfe-sweep", "chosen", version.version)
    wanted = drawn(tmp_path, folder, "--count", 2)
    for name in (
        "models:/nfe-sweep",
        "models:/nfe-sweep/latest",
        "models:/nfe-sweep/1",
        "models:/nfe-sweep@chosen",
    ):
        assert (drawn(tmp_path, name, "--count", 2) == wanted).all()


@pytest.mark.parametrize("arguments, words", [
    (["models:/other"], ["--storage", "there is no registered model other"]),
    (["models:/nfe-sweep/2"], ["--storage", "cannot get models:/nfe-sweep/2 from"]),
    (["models:/nfe-sweep/newest"], ["the registered model nfe-sweep has no version newest"]),
    (["models:/nfe-sweep@none"], ["cannot get models:/nfe-sweep@none from"]),
    (["nfe-swep"], ["nfe-swep", "neither a file or folder", "which has: nfe-sweep", "MLflow run id"]),
    (["0" * 32], ["--storage", "0" * 32, "cannot get"]),
    (["0" * 32, "--tracking-uri", "sqlite:///none.db"], ["--tracking-uri", "there is no none.db"]),
    (["0" * 32, "--tracking-uri", "sqlite:///none"], ["--tracking-uri", "there is no none"]),
    (["nowhere.yaml"], ["nowhere.yaml"]),
])  # fmt: skip
def test_what_is_not_found_is_said_and_nothing_is_written(
    in_the_sweeps_folder, tmp_path, capsys, arguments, words
):
    before = sorted(in_the_sweeps_folder.cwd.iterdir())
    assert sample.main([*arguments, "--out", str(tmp_path / "x.png")]) == 2
    said = capsys.readouterr().err
    assert [word for word in words if word not in said] == [], said
    assert list(tmp_path.iterdir()) == [] and sorted(in_the_sweeps_folder.cwd.iterdir()) == before


def test_a_folder_gets_a_png_an_image(in_the_sweeps_folder, tmp_path):
    folder = tmp_path / "images"
    assert (
        sample.main([str(student(in_the_sweeps_folder, 2)), "--count", "3", "--out", f"{folder}/"])
        == 0
    )
    files = sorted(folder.iterdir())
    assert [re.sub("-[0-9]-", "-N-", file.name) for file in files] == [
        f"0000{k}-N-seed0.png" for k in range(3)
    ]
    images = drawn(tmp_path, student(in_the_sweeps_folder, 2), "--count", 3)
    for file, image in zip(files, images, strict=True):
        with Image.open(file) as png:
            assert (np.asarray(png) == image[:, :, 0]).all()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["images", "x.npz"]


@pytest.mark.parametrize(
    "how", [[], ["--guidance", "2"], ["--solver", "heun"], ["--solver", "rk4", "--guidance", "2"]]
)
def test_an_animation_goes_from_the_noise_to_the_images_in_the_solvers_steps(
    in_the_sweeps_folder, tmp_path, how
):
    source = [
        str(in_the_sweeps_folder.folder),
        "--model",
        "teacher",
        "--steps",
        "4",
        "--count",
        "20",
        *how,
    ]
    for name in ("way.gif", "end.png"):
        assert sample.main([*source, "--out", str(tmp_path / name)]) == 0
    with Image.open(tmp_path / "way.gif") as way, Image.open(tmp_path / "end.png") as end:
        assert way.n_frames == 5
        frames = [
            (np.asarray(frame.convert("RGB")), frame.info["duration"])
            for frame in ImageSequence.Iterator(way)
        ]
        assert (frames[-1][0] == np.asarray(end)).all()
    assert frames[-1][1] == 2000 and {length for _, length in frames[:-1]} == {500}


def test_an_animation_of_more_than_one_batch_has_every_image_in_its_place():
    noise, ends = torch.randn(20, 1, 2, 2), torch.randn(20, 1, 2, 2)
    watched = InputRecorder(lambda x, t: x)
    for batch in (
        noise[:16],
        torch.cat([noise[16:], noise[-1:].expand(12, 1, 2, 2)]),
    ):  # the last one is filled up
        watched(torch.cat([batch, batch]), torch.ones(32))
        watched(torch.cat([batch, batch]) / 2, torch.ones(32))
    positions = watched.positions(nfe=4, evaluations=1, guided=True, images=ends)
    assert (positions == torch.stack([noise, noise / 2, ends])).all()
