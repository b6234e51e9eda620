"""What the playground offers of every kind of run, and draws, without a server."""

import base64
import io
import json
import re
import shlex
import shutil
from pathlib import Path
from typing import Any

import fabricated
import numpy as np
import pytest
from PIL import Image

from orchestrator import sample
from orchestrator.fields.faults import ConfigError
from orchestrator.networks import locate, playground_http
from orchestrator.networks.playground import Playground
from orchestrator.work.requests import RequestError

GRID9 = {
    "data": {"name": "grid9"},
    "model": {"kind": "mlp", "channels": 8, "depth": 1},
    "evaluation": {"samples": 40, "metrics": ["w2"], "diagnostics": []},
}
GUIDED = {"sampling": {"model": "teacher", "steps": 3, "solver": "heun", "guidance": 1.5}}
ON_A_GRID = {"sampling": {"model": "teacher", "steps": 2, "times": [1.0, 0.7, 0.0]}}
UNLABELLED = {"teacher": {"steps": 20, "batch_size": 16, "label_dropout": None}}
CONSISTENCY = {
    "distill": {
        "kind": "consistency",
        "intervals": [2],
        "teacher_steps": 4,
        "steps": 20,
        "batch_size": 16,
    }
}
BUILT_IN = {
    "distill": {
        "intervals": [2, 1],
        "teacher_steps": 4,
        "steps": 20,
        "batch_size": 16,
        "guidance": 2.0,
    }
}
OF_THREES = {"sampling": {"model": "student", "steps": 1, "labels": [3, 7]}}


def playground(root: Path, **settings: Any) -> Playground:
    """The playground of an experiment's file, whose networks are in a store."""
    fabricated.chain(root, "student", **settings)
    source = locate.locate(str(root / "x.yaml"))
    return Playground(source, source.config, [str(root / "x.yaml")])


def drawn(answer: dict[str, Any]) -> np.ndarray:
    """The images of an answer, uint8 (N, H, W)."""
    return np.stack(
        [np.asarray(Image.open(io.BytesIO(base64.b64decode(file)))) for file in answer["images"]]
    )


def by_command(command: str, out: Path) -> np.ndarray:
    """What the command of an answer draws, in this process: the first channel, uint8 (N, H, W), or
    points."""
    assert sample.main([*shlex.split(command)[3:-1], str(out)]) == 0
    with np.load(out) as archive:
        return archive[archive.files[0]][..., 0] if "images" in archive.files else archive["points"]


@pytest.mark.parametrize("settings, asked, nfe", [
    ({}, {"steps": 1}, 1),
    ({}, {"model": "teacher", "steps": 5, "solver": "ab2", "guidance": 2.5, "labels": [3]}, 10),
    (GUIDED, {}, 12),
    (GUIDED, {"model": "student", "steps": 1, "labels": 4}, 1),
    (ON_A_GRID, {"labels": [1, 2, 3]}, 2),
    (ON_A_GRID, {"model": "student", "steps": 1}, 1),
    (UNLABELLED, {"model": "teacher", "steps": 2}, 2),
    (CONSISTENCY, {"steps": 3, "labels": [3]}, 3),
    (OF_THREES, {}, 1),
])  # fmt: skip
def test_what_is_drawn_is_what_its_command_draws(tmp_path, settings, asked, nfe):
    answer = playground(tmp_path, **settings).draw({"seed": 3, "count": 5, **asked})
    assert answer["nfe"] == nfe
    images = drawn(answer)
    assert images.shape == (5, 8, 8)
    assert (images == by_command(answer["command"], tmp_path / "x.npz")).all()


def test_networks_on_s3_are_drawn_too(tmp_path, bucket):
    tracking = {"uri": f"sqlite:///{tmp_path}/mlflow.db"}
    answer = playground(tmp_path, storage=str(bucket), tracking=tracking).draw(
        {"steps": 2, "count": 3}
    )
    assert (drawn(answer) == by_command(answer["command"], tmp_path / "x.npz")).all()


def test_points_are_one_scatter(tmp_path):
    answer = playground(tmp_path, **GRID9).draw({"count": 7, "labels": [8]})
    (file,) = answer["images"]
    assert sample.main([*shlex.split(answer["command"])[3:-1], str(tmp_path / "x.png")]) == 0
    assert base64.b64decode(file) == (tmp_path / "x.png").read_bytes()
    assert answer["classes"] == ["8"] * 7


@pytest.mark.parametrize("asked, network", [
    ({}, "student 1"),
    ({"steps": 2}, "student 2"),
    ({"steps": 3}, "teacher"),
    ({"steps": 2, "solver": "heun"}, "teacher"),
    ({"steps": 2, "guidance": 2}, "teacher"),
])  # fmt: skip
def test_a_request_for_steps_alone_means_the_network_that_the_commands_mean(
    tmp_path, asked, network
):
    answer = playground(tmp_path).draw({"count": 1, **asked})
    assert answer["network"] == network
    assert f"--model {network.split()[0]} --steps {asked.get('steps', 1)}" in answer["command"]


def test_labels_are_told_by_name_and_taken_in_turn(tmp_path):
    playing = playground(tmp_path)
    assert playing.draw({"count": 4, "labels": [3, 7]})["classes"] == ["3", "7", "3", "7"]
    assert len(set(playing.draw({"count": 64})["classes"])) == 10


@pytest.mark.parametrize("settings, teacher, student", [
    ({}, {"steps": None, "begin": 2, "solver": "ab2", "guided": True}, {"steps": [1, 2], "begin": 2, "built_in": 1.0}),
    (GUIDED, {"steps": None, "begin": 3, "solver": "heun", "guided": True}, {"guided": False}),
    (ON_A_GRID, {"steps": [2], "begin": 2}, {"steps": [1, 2]}),
    (UNLABELLED, {"guided": False}, {"guided": False}),
    (CONSISTENCY, {"steps": None}, {"steps": [1, 2, 3, 4], "begin": 4}),
    (BUILT_IN, {"guided": True}, {"guided": False, "built_in": 2.0}),
])  # fmt: skip
def test_each_network_offers_what_it_takes(tmp_path, settings, teacher, student):
    offered = playground(tmp_path, **settings).choices()["networks"]
    assert teacher.items() <= offered["teacher"].items()
    assert student.items() <= offered["student"].items()


def test_networks_that_are_not_trained_are_not_offered_and_refused(tmp_path):
    playing = playground(tmp_path)
    one_step = playing.run.trial.chain[-1]
    assert one_step.label == "student 1"
    shutil.rmtree(playing.run.store.result(one_step.key).folder)
    assert playing.choices()["networks"]["student"]["steps"] == [2]
    with pytest.raises(ConfigError, match="student 1 is not trained yet"):
        playing.draw({"model": "student", "steps": 1})


@pytest.mark.parametrize("settings, classes, unasked", [
    ({}, 10, "as in the data"),
    (OF_THREES, 10, "as in the run: 3, 7"),
    (UNLABELLED, 0, "as in the data"),
])  # fmt: skip
def test_labels_are_offered_where_the_network_knows_them(tmp_path, settings, classes, unasked):
    offered = playground(tmp_path, **settings).choices()
    assert (len(offered["classes"]), offered["default_labels"]) == (classes, unasked)


def test_labels_that_a_folder_has_not_are_refused_by_page_and_command(tmp_path, capsys):
    for name in ("cat", "dog"):
        (tmp_path / "images" / name).mkdir(parents=True)
        Image.new("RGB", (16, 16)).save(tmp_path / "images" / name / "x.png")
    playing = playground(
        tmp_path, data={"name": "folder", "root": str(tmp_path / "images"), "size": 16}
    )
    assert playing.choices()["classes"] == ["cat", "dog"]
    answer = playing.draw({"labels": [1, "cat"], "count": 2, "steps": 1})
    assert answer["classes"] == ["dog", "cat"] and "--labels dog,cat" in answer["command"]
    assert by_command(answer["command"], tmp_path / "x.npz").shape == (2, 16, 16)
    with pytest.raises(RequestError, match='labels: got dogg, did you mean "dog"'):
        playing.draw({"labels": ["dogg"]})
    with pytest.raises(ConfigError, match="expected 0 to 1: folder has 2 classes"):
        playing.draw({"labels": [2]})
    assert (
        sample.main([str(tmp_path / "x.yaml"), "--labels", "2", "--out", str(tmp_path / "x.png")])
        == 2
    )
    assert "expected 0 to 1: folder has 2 classes" in capsys.readouterr().err


def test_the_page_is_one_file_and_no_name_breaks_it():
    text = playground_http.page({"name": "</script><b>&"})
    assert "{{" not in text and "</script><b>" not in text
    assert re.findall(r"(?:src|href)=[\"']?(?!data:)\w|@import|https?://", text) == []
    (told,) = re.findall(r'<script type="application/json" id="choices">(.*?)</script>', text)
    assert json.loads(told) == {"name": "</script><b>&"}
