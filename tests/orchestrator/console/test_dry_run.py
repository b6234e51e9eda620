"""A dry run plans without files and without a network, and writes nothing."""

import socket
from pathlib import Path
from typing import Any

import pytest
from commands import REPOSITORY, everything_below
from PIL import Image

from kaccore.data import load
from orchestrator import sweep
from orchestrator.settings import loading
from orchestrator.work import forecast

# each kind of step is timed, which is the same with few images
SMALL_BATCHES = ["--set", "teacher.batch_size=8", "--set", "distill.batch_size=8"]
FILES = sorted((REPOSITORY / "experiments").rglob("*.yaml"))


@pytest.fixture
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to stand in, on a machine without a network."""

    def refuse(self: socket.socket, address: Any) -> None:
        raise AssertionError(f"a dry run connects to {address}")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    return tmp_path


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_every_experiment_is_planned_where_its_data_are_not(file, alone, capsys):
    smaller = [] if file.parent.name == "paper" else SMALL_BATCHES  # large networks' are counted
    assert sweep.main([str(file), "--dry-run", *smaller]) == 0
    said = capsys.readouterr().out
    packaged = loading.load(file).data.facts.packaged
    assert ("unknown" in said) == ("the data are missing" in said) == (not packaged)
    assert "parameters" in said and "estimate  about " in said
    assert everything_below(alone) == {}


def test_the_missing_data_are_named_with_the_way_to_get_them(alone, capsys):
    file = REPOSITORY / "experiments" / "paper" / "distillkac_lsun_bedroom256.yaml"
    assert sweep.main([str(file), "--dry-run"]) == 0
    said = capsys.readouterr().out
    assert "bedroom_train_lmdb.zip" in said and "https://github.com/fyu/lsun" in said


def test_labels_of_missing_images_are_not_judged(alone, capsys):
    Path("x.yaml").write_text(
        "name: x\ndata: {name: folder, root: nowhere, size: 8}\npath: {kind: kac}\n"
        "model: {channels: 8, multipliers: [1], patch: 4}\nevaluation: {features: own}\n"
        "sampling: {model: teacher, labels: [0, 1], guidance: 2.0}\n"
    )
    assert sweep.main(["x.yaml", "--dry-run"]) == 0
    said = capsys.readouterr().out
    assert "the data are missing" in said and "unknown" in said


def test_images_that_were_never_decoded_are_listed_and_no_cache_is_written(alone, capsys):
    for k in range(24):
        (alone / "images" / f"class {k % 2}").mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (9, 9), (10 * k, 0, 0)).save(
            alone / "images" / f"class {k % 2}" / f"{k}.png"
        )
    Path("x.yaml").write_text(
        "name: x\ndata: {name: folder, root: images, size: 8}\npath: {kind: kac}\n"
        "model: {channels: 8, multipliers: [1], patch: 4}\nevaluation: {samples: 16, features: own}\n"
        "sampling: {labels: [0, 1]}\n"
    )
    before = everything_below(alone)
    assert sweep.main(["x.yaml", "--dry-run"]) == 0
    said = capsys.readouterr().out
    assert (
        "the images are not decoded yet" in said
        and "unknown" in said
        and "estimate  about " in said
    )
    assert everything_below(alone) == before
    load("folder", "images", size=8)  # decodes them
    assert sweep.main(["x.yaml", "--dry-run"]) == 0
    assert "unknown" not in capsys.readouterr().out


def test_a_sweep_that_draws_its_trials_shows_some_and_costs_all(alone, capsys, monkeypatch):
    monkeypatch.setattr(forecast, "_step_seconds", lambda stage, data: 0.1)
    space = "{path.damping: {loguniform: [1.0, 100.0]}}"
    Path("x.yaml").write_text(
        "name: x\ndata: {name: digits}\npath: {kind: kac}\nmodel: {channels: 8, multipliers: [1], patch: 4}\n"
        "teacher: {steps: 4000, batch_size: 16}\nsampling: {model: teacher, steps: 2}\n"
        f"sweep: {{search: optuna, num_trials: 400, space: {space}}}\n"
    )
    hours = []
    for trials in (400, 4000):
        assert sweep.main(["x.yaml", "--dry-run", "--set", f"sweep.num_trials={trials}"]) == 0
        said = capsys.readouterr().out
        assert (
            f"0 of {trials} points are chosen" in said
            and "the last 3 points below are examples" in said
        )
        assert said.count("damping") >= 3
        hours.append(float(said.split("estimate  about ")[1].split(" h ")[0].replace(",", "")))
    assert hours[1] == pytest.approx(10 * hours[0], rel=0.1) and hours[0] > 10
    assert everything_below(alone).keys() == {"x.yaml"}
