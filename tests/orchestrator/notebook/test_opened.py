"""What a finished sweep says in Python: `kf.open`, `kf.load`, `kf.compare`."""

import csv
import io
import json
from pathlib import Path

import fabricated
import kacflow as kf
import numpy as np
import pandas as pd
import pytest
from PIL import Image

import orchestrator
from orchestrator.settings import loading
from orchestrator.store import layout
from orchestrator.sweeps.records import Records


@pytest.fixture
def records(tmp_path) -> Records:
    found = fabricated.sweep(tmp_path / "runs")
    found.save()
    return found


@pytest.fixture
def run(records: Records) -> kf.Run:
    return kf.open(str(records.folder))


def test_a_run_is_opened_by_its_folder_its_name_and_its_full_name(records, run):
    storage = str(records.store.root)
    plan = records.plan
    for name in ("fabricated", f"fabricated/{plan.id}"):
        assert kf.open(name, storage=storage).folder == run.folder == str(records.folder)
    assert run.name == f"fabricated/{plan.id}" and run.status == "done"
    assert loading.load(records.folder / layout.CONFIG).to_yaml() == run.config
    with pytest.raises(ValueError, match="fabricatd"):
        kf.open("fabricatd", storage=storage)


def test_the_verdict_is_the_one_that_a_sweep_prints(run):
    lines = [line for found in run.verdicts for line in found.lines()]
    assert run.verdict.splitlines() == lines
    assert repr(run.verdict) == str(run.verdict) and "1 step: student" in run.verdict
    assert repr(run).startswith(f"{run.name}: done\nfid on ")
    assert "<pre>" in run._repr_html_() and "1 step: student" in run._repr_html_()


def test_results_are_the_rows_of_results_csv_with_typed_columns(records, run):
    results = run.results
    written = list(csv.DictReader(io.StringIO((records.folder / "results.csv").read_text())))
    assert list(results.columns) == [name for name in written[0] if name != "trial"]
    assert list(results.index) == [0, 1, 2]
    assert results["fid"].tolist() == [float(row["fid"]) for row in written]
    for name in ("fid", "nfe", "sampling.steps", "teacher.lr", "path.damping", "training_seconds"):
        assert pd.api.types.is_numeric_dtype(results[name]), name
    assert results["error"].isna().all()


def test_results_have_every_measure_setting_and_stage(records, run):
    results, (first, *_) = run.results, records.plan.trials
    assert results.loc[0, "teacher_stage"] == first.chain[0].key
    assert results.loc[0, "evaluation_stage"] == first.evaluation.key
    assert results.loc[0, "training_seconds"] == fabricated.SECONDS
    measured = records.measured(first)
    for name, value in measured.items():
        assert results.loc[0, name] == value, name
    flat = first.config.flat()
    assert results.loc[0, "path.damping"] == flat["path.damping"]
    assert json.loads(results.loc[0, "model.multipliers"]) == [1]
    assert "storage" not in results and "path.knots" not in results


def test_stages_and_loss_curves(records, run):
    stages = run.stages
    assert list(stages.index) == [stage.key for stage in records.plan.stages()]
    assert stages["done"].all() and (stages["seconds"] >= 0).all()
    assert {"teacher", "student", "evaluation"} <= set(stages["kind"])
    assert {"key", "name", "step"} <= set(run.losses.columns)


def test_the_best_network_is_that_of_the_best_setting(run):
    """The teacher has FID 1, the student of one step 2, that of two steps 3."""
    assert run.best().config.sampling.model == "teacher"
    assert run.best(steps=1).config.sampling.model == "student"
    assert run.best(model="student").config.sampling.steps == 1
    assert run.best(steps=2, model="student").config.sampling.steps == 2
    with pytest.raises(
        ValueError,
        match=r"no measured trial with steps 3; there are .* teacher euler 2, student euler 1",
    ):
        run.best(steps=3)


def test_of_several_seeds_the_best_mean_decides(tmp_path):
    asked = fabricated.experiment(
        sweep={"space": {"seed": {"grid": [0, 1]}, "sampling.steps": {"grid": [1, 2]}}},
    )
    records = fabricated.sweep(tmp_path / "runs", asked)
    for trial, fid in zip(records.plan.trials, (1.0, 9.0, 3.0, 3.0), strict=True):
        order = (trial.config.sampling.steps, trial.config.seed)
        fid = {(1, 0): 1.0, (1, 1): 9.0, (2, 0): 3.0, (2, 1): 4.0}[order]
        records._measured[trial.key] = {"fid": fid, "fid_features": "digits-cnn-v1", "nfe": 1}
    best = kf.Run(records).best()
    assert (best.config.sampling.steps, best.config.seed) == (2, 0)


def test_images_are_an_array_and_a_picture(run, tmp_path):
    network = run.best(steps=1)
    images = network.sample(5, seed=3, labels=["7", 1])
    assert images.shape == (5, 8, 8, 1) and len(images) == 5 and images.nfe == 1
    assert np.asarray(images).dtype == np.uint8
    assert images.labels == ["7", "1", "7", "1", "7"]
    again = network(["7", "1"], count=3, seed=3)
    np.testing.assert_array_equal(again.array, images[:3])
    with Image.open(io.BytesIO(images._repr_png_())) as picture:
        assert picture.format == "PNG" and picture.size[0] > 8
    assert images.save(tmp_path / "x.png").stat().st_size > 100
    with np.load(images.save(tmp_path / "x.npz")) as file:
        np.testing.assert_array_equal(file["images"], images.array)
    assert "5 images (8, 8, 1) of student" in repr(images)
    assert network.classes == [str(k) for k in range(10)]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"labels": ["x"]}, "labels: got x, expected classes of digits"),
        ({"labels": [11]}, "labels"),
        ({"labels": []}, "labels: got an empty list"),
        ({"count": 0}, "count: got 0, expected a whole number, at least 1"),
        ({"count": 2.5}, "count: got 2.5, expected a whole number"),
        ({"seed": -1}, "seed: got -1, expected a whole number from 0"),
    ],
)
def test_bad_wishes_are_refused(run, settings, message):
    with pytest.raises(ValueError) as raised:
        run.best(steps=1).sample(**settings)
    assert message in str(raised.value)


def test_images_file_must_be_png_or_npz(run, tmp_path):
    with pytest.raises(ValueError, match=r"x\.txt: expected a name that ends in \.png or \.npz"):
        run.best(steps=1).sample(1).save(tmp_path / "x.txt")


def test_load_finds_networks_as_commands_do(records):
    storage = str(records.store.root)
    student = kf.load("fabricated", steps=1, storage=storage)
    assert student.config.sampling.model == "student"
    teacher = kf.load("fabricated", steps=5, solver="heun", guidance=2.0, storage=storage)
    assert (teacher.config.sampling.model, teacher.sample(2).nfe) == ("teacher", 5 * 2 * 2)
    assert kf.load(f"{records.folder}:1").config == records.plan.trials[1].config
    with pytest.raises(ValueError, match="solver"):
        kf.load("fabricated", solver="eule", storage=storage)
    assert "student, 1 step" in repr(student)


def test_compare_shows_what_differs(records, tmp_path):
    other = fabricated.sweep(tmp_path / "others", fabricated.experiment("other", seed=1))
    other.save()
    both = kf.compare(kf.open(str(records.folder)), str(other.folder))
    names = [run.name for run in both.runs]
    assert list(both.settings.columns) == names
    assert both.settings.loc["seed"].tolist() == [0, 1]
    assert set(both.settings.index) == {"seed"}
    assert len(both.results) == 6 and set(both.results.index.get_level_values("run")) == set(names)
    assert all(name in both.verdict for name in names) and "<table" in both._repr_html_()
    with pytest.raises(ValueError, match="expected at least two"):
        kf.compare(str(records.folder))


def test_an_experiment_is_built_in_python_and_written_as_a_file(tmp_path):
    built = kf.experiment(
        name="mine", data={"name": "digits"}, path={"kind": "kac"}, set={"path.damping": 9.0}
    )
    (tmp_path / "x.yaml").write_text(built.to_yaml())
    assert loading.load(tmp_path / "x.yaml").to_yaml() == built.to_yaml()
    based = kf.experiment(base="nfe_sweep", name="mine", teacher={"steps": 3})
    assert based.teacher.steps == 3 and based.sweep is not None
    with pytest.raises(ValueError, match=r"experiment: teacher\.steps: got 0"):
        kf.experiment(base="nfe_sweep", teacher={"steps": 0})
    with pytest.raises(ValueError, match=r'set=\{"path\.damping": -1\}: path\.damping: got -1'):
        kf.experiment(base="nfe_sweep", set={"path.damping": -1})
    with pytest.raises(ValueError, match="unknown"):
        kf.experiment(base="nfe_sweep", blocks={})


def test_both_names_have_the_same_functions():
    assert orchestrator.open is kf.open and orchestrator.load is kf.load
    assert orchestrator.compare is kf.compare and orchestrator.experiment is kf.experiment
    assert callable(orchestrator.sweep) and callable(orchestrator.sweep.main)
    with pytest.raises(ValueError, match=r"nfe_swep: expected a \.yaml file, or one of"):
        orchestrator.sweep("nfe_swep")
    with pytest.raises(AttributeError):
        orchestrator.nothing  # noqa: B018


def test_numbers_of_numpy_and_paths_are_taken(run, records):
    images = run.best(steps=np.int64(1)).sample(np.int64(2), seed=np.int64(1), labels=np.array([1]))
    assert images.labels == ["1", "1"]
    built = kf.experiment(
        base="nfe_sweep", model={"channels": np.int64(3)}, set={"teacher.lr": np.float64(0.5)}
    )
    assert (built.model.channels, built.teacher.lr) == (3, 0.5)
    assert kf.open(Path(run.folder)).folder == run.folder
    assert kf.open(run) is run


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: kf.sweep("nfe_sweep", set=["a=1"]), 'set: got ["a=1"], expected a mapping'),
        (lambda: kf.experiment("nfe_sweep"), 'set: got "nfe_sweep", expected a mapping'),
        (lambda: kf.experiment(set={3: 3}), "set: got {3: 3}, expected a mapping"),
        (lambda: kf.sweep("nfe_sweep", address=3), "address: got 3"),
        (lambda: kf.sweep(3), "source: got 3, expected the path of a file"),
        (lambda: kf.load(3), "source: got a int"),
    ],
)
def test_arguments_of_other_types_are_refused(call, message):
    with pytest.raises(ValueError) as raised:
        call()
    assert message in str(raised.value)


def test_empty_curves_have_their_columns(tmp_path):
    records = fabricated.sweep(tmp_path / "runs")
    assert list(kf.Run(records).fids.columns) == ["key", "name", "step", "fid"]
