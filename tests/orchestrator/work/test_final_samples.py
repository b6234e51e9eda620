"""Each training keeps a picture of its network's samples, and the report after `train` and `distill`
shows it."""

import io
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from in_process import train
from PIL import Image

from kaccore.data import load
from orchestrator.plan.plan import Plan, alike, make
from orchestrator.reports.page import page
from orchestrator.settings.loading import parse
from orchestrator.store import layout
from orchestrator.store.store import Store
from orchestrator.sweeps.records import Records
from orchestrator.work import building, final_samples
from orchestrator.work.evaluation import data_of

SMALL: dict[str, Any] = {
    "name": "pictured",
    "data": {"name": "digits"},
    "path": {"kind": "kac"},
    "model": {"channels": 8, "multipliers": [1], "patch": 4},
    "teacher": {"steps": 6, "batch_size": 8, "calibrate": True},
    "distill": {"intervals": [2, 1], "teacher_steps": 4, "steps": 4, "batch_size": 8},
    "sampling": {"steps": 1},
}


def trained(root: Path, goal: str = "student", **blocks: Any) -> tuple[Plan, Store]:
    planned = make(
        parse({**SMALL, **blocks}), alike(load("digits").fingerprint, "digits-cnn-v1"), goal
    )
    (trial,) = planned.trials
    train(trial.chain, trial.config.data, root)
    return planned, Store(root)


def picture(store: Store, key: str) -> Image.Image:
    return Image.open(io.BytesIO(store.result(key).content(layout.FINAL_SAMPLES)))


def test_teacher_and_students_have_a_picture_that_their_weights_give_again(tmp_path):
    planned, store = trained(tmp_path)
    stages = planned.trials[0].chain
    sizes = {picture(store, stage.key).size for stage in stages}
    assert len(sizes) == 1
    contents = {store.result(stage.key).content(layout.FINAL_SAMPLES) for stage in stages}
    assert len(contents) == 3  # three networks
    data = data_of(stages[0], planned.trials[0].config.data)
    for stage in stages:  # with the tone curve of the teacher
        again = final_samples.png(stage, building.trained(store, stage, data), data)
        assert again == store.result(stage.key).content(layout.FINAL_SAMPLES)


def test_drawing_it_takes_no_number_from_torchs_generators(tmp_path):
    planned, store = trained(tmp_path, goal="teacher")
    (teacher,) = planned.trials[0].chain
    data = data_of(teacher, planned.trials[0].config.data)
    model = building.trained(store, teacher, data)
    before = torch.get_rng_state()
    final_samples.png(teacher, model, data)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("kind", ["consistency", "flow_map"])
def test_a_student_that_jumps_has_one(kind, tmp_path):
    distill = {"kind": kind, "intervals": [4], "steps": 4, "batch_size": 8}
    planned, store = trained(tmp_path, distill=distill, sampling={"steps": 4})
    assert picture(store, planned.trials[0].chain[-1].key).size[0] > 16


@pytest.mark.parametrize("goal, networks", [("teacher", 1), ("student", 3)])
def test_the_report_after_training_shows_them_and_one_without_them_says_nothing(
    goal, networks, tmp_path
):
    planned, store = trained(tmp_path, goal)
    records = Records(planned, store)
    records.open()
    text = page(records)
    assert len(re.findall('<img alt="samples of ', text)) == networks and "<h2>Samples</h2>" in text
    (tmp_path / "other").mkdir()
    nothing = Records(planned, Store(tmp_path / "other"))
    nothing.open()
    assert "<h2>Samples</h2>" not in page(nothing)
