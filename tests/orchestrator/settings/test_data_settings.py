"""An experiment on a folder of images: from its settings to a trained network, in this process."""

import numpy as np
import pytest
import torch
from PIL import Image
from stages import data_block

from orchestrator import sample
from orchestrator.fields.faults import ConfigError
from orchestrator.settings.experiment import Experiment
from orchestrator.settings.loading import load, override, parse
from orchestrator.sweeps import opening
from orchestrator.work.batch_loss import Group
from orchestrator.work.job import Job, Saving
from orchestrator.work.worker import run_stage

FILE = """\
name: own-images
storage: {storage}
data: {{name: folder, root: images, size: 8}}
path: {{kind: kac, signal: {signal}}}
model: {{channels: 8, multipliers: [1], head_channels: 8}}
teacher: {{steps: 3, batch_size: 4}}
distill: {{intervals: [1], teacher_steps: 2, steps: 2, batch_size: 4}}
sampling: {{model: teacher, steps: 2}}
"""


@pytest.fixture
def experiment(tmp_path, monkeypatch):
    """Writes and loads the experiment of a signal, on two classes of images or unlabelled ones."""
    monkeypatch.chdir(tmp_path)

    def write(signal: str = "linear", classes: tuple[str, ...] = ("cat", "dog")) -> Experiment:
        for seed, name in enumerate(classes or ("",)):
            folder = tmp_path / "images" / name
            folder.mkdir(parents=True, exist_ok=True)
            for i in range(5):
                pixels = np.random.default_rng((seed, i)).integers(
                    0, 256, (12, 10, 3), dtype=np.uint8
                )
                Image.fromarray(pixels).save(folder / f"{i}.png")
        (tmp_path / "x.yaml").write_text(FILE.format(storage=tmp_path / "runs", signal=signal))
        return load("x.yaml")

    return write


def train(config: Experiment) -> None:
    stages = opening.make_plan(config, "x.yaml", "student").trials[0].chain
    job = Job(
        stages,
        (0,) * len(stages),
        config.storage,
        config.data,
        Saving(2, 60.0, keep=1),
        threads=1,
        run="run",
    )
    for stage in stages:
        run_stage(stage, job, Group(rank=0, world=1, device=torch.device("cpu")))


@pytest.mark.parametrize(
    "signal", ["linear", "exponential"]
)  # the latter draws its prior from the data
def test_a_folder_of_images_is_trained_on_and_sampled(experiment, tmp_path, signal):
    train(experiment(signal))
    assert (
        sample.main(["x.yaml", "--count", "3", "--labels", "1", "--out", str(tmp_path / "x.npz")])
        == 0
    )
    with np.load(tmp_path / "x.npz") as archive:
        assert archive["images"].shape == (3, 8, 8, 3)


def test_unlabelled_images_are_trained_on_without_labels(experiment, tmp_path):
    train(experiment(classes=()))
    assert sample.main(["x.yaml", "--count", "2", "--out", str(tmp_path / "x.npz")]) == 0


def test_the_files_of_a_folder_and_not_its_place_make_the_keys(experiment, tmp_path):
    def key(**settings: object) -> str:
        changed = override(config, {f"data.{key}": value for key, value in settings.items()})
        return opening.make_plan(changed, "x.yaml", "teacher").trials[0].key

    config = experiment()
    before, smaller = key(), key(size=4)
    (tmp_path / "images").rename(tmp_path / "moved")
    assert key(root="moved", cache="elsewhere") == before != smaller
    Image.new("RGB", (9, 9)).save(tmp_path / "moved" / "cat" / "0.png")
    assert key(root="moved") != before


def test_classes_that_a_folder_does_not_have_are_refused_once_it_is_read(experiment):
    config = override(experiment(), {"sampling.labels": [1, 2]})
    with pytest.raises(
        ConfigError, match=r"^x: sampling\.labels: got \[1, 2\], expected 0 to 1: folder has 2 "
    ):
        opening.make_plan(config, "x")


def test_labels_and_guidance_are_refused_for_images_without_classes(experiment):
    config = override(experiment(classes=()), {"sampling.labels": 0, "sampling.guidance": 2.0})
    with pytest.raises(ConfigError) as refused:
        opening.make_plan(config, "x")
    assert str(refused.value).split("\n") == [
        "x: sampling.labels: got 0, expected null: folder has no labels",
        "x: sampling.guidance: got 2.0, expected 1: guidance needs labels, and folder has none",
    ]


def test_missing_data_is_one_line_with_the_way_to_get_it(tmp_path):
    data = {"name": "cifar10", "root": str(tmp_path)}
    with pytest.raises(ConfigError) as refused:
        opening.make_plan(parse({"name": "x", "data": data, "path": {"kind": "kac"}}), "x.yaml")
    (line,) = str(refused.value).split("\n")
    assert line.startswith(
        f"x.yaml: data: cifar10: there is no {tmp_path}/cifar-10-batches-py/data_batch_1; get "
    )


def test_places_of_the_data_hold_for_processes_in_other_folders(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/somebody")
    placed = data_block(name="folder", root="images", size=8, cache="~/cache").absolute()
    assert (placed.root, placed.cache) == (str(tmp_path / "images"), "/home/somebody/cache")
    assert data_block(name="digits").absolute() == data_block(name="digits")
