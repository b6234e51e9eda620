"""`kf.load` of a file that `export` wrote, and of a registered model: each is called like the run."""

from pathlib import Path

import fabricated
import kacflow as kf
import numpy as np
import pytest
from mlflow import MlflowClient

from orchestrator import export
from orchestrator.sweeps.records import Records

FILES = {form: f"student.{form}" for form in export.FORMATS}


@pytest.fixture(scope="module")
def files(fabricated_sweep: Records, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The student of one step in each format, and a guided teacher of two steps."""
    folder = tmp_path_factory.mktemp("exported")
    found = {form: folder / name for form, name in FILES.items()}
    for form, file in found.items():
        words = ["--steps", "1", "--format", form, "--out", str(file)]
        assert export.main([str(fabricated_sweep.folder), *words]) == 0
    found["guided"] = folder / "guided.safetensors"
    words = ["--steps", "2", "--model", "teacher", "--guidance", "2", "--solver", "heun"]
    words += ["--format", "safetensors", "--out", str(found["guided"])]
    assert export.main([str(fabricated_sweep.folder), *words]) == 0
    return found


@pytest.fixture
def student(fabricated_sweep: Records) -> kf.Network:
    return kf.load(str(fabricated_sweep.folder), steps=1)


def levels_apart(one: kf.Images, other: kf.Images) -> int:
    """By how many of 255 levels a pixel differs at most."""
    return int(np.abs(one.array.astype(int) - other.array.astype(int)).max())


@pytest.mark.parametrize("form", FILES)
def test_an_exported_file_is_called_like_the_run_and_gives_its_images(form, files, student):
    pipe = kf.load(files[form])
    images = pipe(labels=["3"], count=17, seed=5)  # more than a batch that is padded
    wanted = student(labels=["3"], count=17, seed=5)
    assert levels_apart(images, wanted) <= 1  # what lies between two levels is rounded up or down
    assert images.shape == (17, 8, 8, 1) and images.array.std() > 1
    assert (images.labels, images.nfe) == (wanted.labels, wanted.nfe)
    assert pipe.classes == student.classes
    assert repr(pipe).startswith("student, 1 step of euler, NFE 1, guidance 1\nfrom ")
    assert f"{FILES[form]}, {form}, of fabricated: student 1, stage " in repr(pipe)


@pytest.mark.parametrize("form", FILES)
def test_without_labels_each_class_is_drawn_equally_often(form, files):
    images = kf.load(files[form], steps=1, model="student").sample(20, seed=1)
    assert sorted(images.labels) == [str(k) for k in range(10) for _ in range(2)]
    np.testing.assert_array_equal(kf.load(files[form]).sample(3, seed=1).array, images[:3])


def test_a_guided_teacher_keeps_its_guidance(files, fabricated_sweep):
    run = kf.load(
        str(fabricated_sweep.folder), steps=2, model="teacher", guidance=2.0, solver="heun"
    )
    pipe = kf.load(files["guided"], guidance=2.0, solver="heun")
    assert levels_apart(pipe(["1", 2], count=4), run(["1", 2], count=4)) <= 1
    assert pipe(["1"], count=2).nfe == run(["1"], count=2).nfe == 8
    assert sum(w.numel() for w in pipe.module.parameters()) == sum(
        w.numel() for w in run.module.parameters()
    )


@pytest.mark.parametrize("form", FILES)
@pytest.mark.parametrize(
    ("wish", "message"),
    [
        (
            {"steps": 4},
            "steps: got 4, but {} has 1, which is part of an exported file: load the run",
        ),
        ({"guidance": 2.0}, "guidance: got 2.0, but {} has 1.0, which is part of an exported file"),
        ({"solver": "heun"}, 'solver: got "heun", but {} has "euler"'),
        ({"model": "teacher"}, 'model: got "teacher", but {} has "student"'),
        (
            {"storage": "runs"},
            "{}: an exported file needs no store: leave storage and tracking_uri",
        ),
    ],
)
def test_what_a_file_cannot_do_is_one_clear_error(form, files, wish, message):
    with pytest.raises(ValueError) as raised:
        kf.load(files[form], **wish)
    said = str(raised.value)
    assert said.startswith(message.format(files[form])) and "\n" not in said


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (["x"], "labels: got x, expected classes of"),
        ([10], "labels: got 10, expected the number of a class, 0 to 9"),
        ([], "labels: got an empty list"),
    ],
)
def test_labels_that_it_does_not_have_are_refused(files, labels, message):
    with pytest.raises(ValueError) as raised:
        kf.load(files["onnx"])(labels)
    assert message in str(raised.value)


def test_what_an_exported_file_does_not_have_is_said(files):
    for form in ("onnx", "torchscript"):
        with pytest.raises(ValueError, match="has no PyTorch module: export it as safetensors"):
            kf.load(files[form]).module  # noqa: B018
    with pytest.raises(ValueError, match="an exported file has no experiment: load the run"):
        kf.load(files["onnx"]).config  # noqa: B018


@pytest.mark.parametrize("form", FILES)
def test_a_damaged_file_is_named(form, files, tmp_path):
    damaged = tmp_path / FILES[form]
    damaged.write_bytes(files[form].read_bytes()[:-2000])
    with pytest.raises(ValueError) as raised:
        kf.load(damaged)
    said = str(raised.value)
    assert said.startswith(str(damaged)) and "damaged" in said and "\n" not in said
    with pytest.raises(ValueError, match=f"nowhere{FILES[form]}: there is no such file"):
        kf.load(f"nowhere{FILES[form]}")


def test_a_file_needs_no_ending(files, tmp_path):
    for form in FILES:
        (tmp_path / form).write_bytes(files[form].read_bytes())
        assert kf.load(tmp_path / form).classes == [str(k) for k in range(10)]


def test_noise_of_training_images_needs_the_run(tmp_path):
    asked = fabricated.experiment(path={"kind": "kac", "signal": "exponential"})
    records = fabricated.sweep(tmp_path / "runs", asked)
    out = tmp_path / "x.safetensors"
    assert export.main([str(records.folder), "--format", "safetensors", "--out", str(out)]) == 0
    with pytest.raises(ValueError, match="its noise starts from training images"):
        kf.load(out)


def test_a_registered_model_is_called_in_the_same_way(fabricated_sweep, student):
    storage = fabricated_sweep.store.root
    client = MlflowClient(f"sqlite:///{storage / 'mlflow.db'}")
    client.set_registered_model_alias("fabricated", "chosen", "1")
    wanted = student(labels=["3"], count=4).array
    for name in ("models:/fabricated/1", "models:/fabricated@chosen", "models:/fabricated"):
        images = kf.load(name, storage=str(storage))(labels=["3"], count=4)
        np.testing.assert_array_equal(images.array, wanted)
    with pytest.raises(ValueError, match="models:/fabricated/9"):
        kf.load("models:/fabricated/9", storage=str(storage))
