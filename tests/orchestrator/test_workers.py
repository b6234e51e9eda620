import json
import math
import multiprocessing
import shutil
import time
from pathlib import Path

import pytest
import torch

from kaccore.data import load
from kaccore.training import NonFiniteLossError
from orchestrator.config import parse
from orchestrator.plan import Stage, make
from orchestrator.store import Store
from orchestrator.workers import Group, Job, run_training_stage

SPAWN = multiprocessing.get_context("spawn")
PATIENCE = 300.0
ALONE = Group(rank=0, world=1, device=torch.device("cpu"))
TEACHER_STEPS, STUDENT_STEPS = 120, 60


def chain(**settings: object) -> tuple[Stage, ...]:
    base = parse(
        {
            "name": "workers",
            "data": {"name": "digits"},
            "path": {"kind": "kac"},
            "model": {"channels": 8, "multipliers": [1], "patch": 4, "dropout": 0.1},
            "teacher": {"steps": TEACHER_STEPS, "batch_size": 8, "warmup": 5},
            "distill": {"intervals": [2], "teacher_steps": 4, "steps": STUDENT_STEPS, "batch_size": 8},
            "sampling": {"steps": 2},
        }
    )
    config = base.override({key.replace("__", "."): value for key, value in settings.items()})
    return make(config, load("digits").fingerprint, "digits-cnn-v1", "student").trials[0].chain


def job(stages: tuple[Stage, ...], root: Path, every: int) -> Job:
    return Job(stages, str(root), None, every_steps=every, every_minutes=60.0, keep=2, threads=1, run="run")


def train(root: str, every: int = 40, stages: tuple[Stage, ...] | None = None) -> None:
    """Train `stages`, by default the whole chain, with a checkpoint `every` so many steps."""
    torch.set_num_threads(1)
    stages = stages or chain()
    for stage in stages:
        run_training_stage(stage, job(stages, Path(root), every), ALONE)


def checkpoints(root: Path, stage: Stage) -> list[Path]:
    return sorted((root / "work" / stage.key / "checkpoints").glob("step-*.json"))


def kill_in(stage: Stage, root: Path) -> None:
    """Train in a process that is killed once it has written two checkpoints of `stage`."""
    process = SPAWN.Process(target=train, args=(str(root), 5))
    process.start()
    until = time.monotonic() + PATIENCE
    while len(checkpoints(root, stage)) < 2:
        assert process.exitcode is None and time.monotonic() < until
        time.sleep(0.002)
    process.kill()
    process.join(PATIENCE)
    assert not Store(root).done(stage.key), "it was killed too late for this test"


def train_teacher(root: Path) -> None:
    train(str(root), stages=chain()[:1])


def weights(root: Path, stage: Stage) -> bytes:
    return Store(root).result(stage.key).path("model.safetensors").read_bytes()


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("uninterrupted")
    train(str(root))
    return root


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Killed in the middle of the teacher's training."""
    root = tmp_path_factory.mktemp("killed")
    kill_in(chain()[0], root)
    return root


@pytest.fixture
def interrupted(killed: Path, tmp_path: Path) -> Path:
    return shutil.copytree(killed, tmp_path / "runs")


def test_training_that_was_killed_twice_ends_with_the_weights_of_the_uninterrupted_one(interrupted, uninterrupted):
    teacher, student = chain()
    kill_in(student, interrupted)  # which first resumes and finishes the teacher
    assert Store(interrupted).done(teacher.key)
    train(str(interrupted))
    assert weights(interrupted, teacher) == weights(uninterrupted, teacher)
    assert weights(interrupted, student) == weights(uninterrupted, student)


def test_a_resumed_loss_curve_has_every_point_once(interrupted, uninterrupted):
    train_teacher(interrupted)
    teacher = chain()[0].key
    one, other = (Store(root).result(teacher).json("losses.json") for root in (interrupted, uninterrupted))
    assert [p["step"] for p in one] == [p["step"] for p in other]
    assert one[-1]["step"] == TEACHER_STEPS
    assert all(math.isfinite(p["loss"]) for p in one)


def test_how_often_training_is_saved_does_not_change_its_result(uninterrupted, tmp_path):
    train(str(tmp_path), 10**6)
    for stage in chain():
        assert weights(tmp_path, stage) == weights(uninterrupted, stage)


DAMAGES = {
    "tensors cut short": (".safetensors", lambda content: content[:-100]),
    "a bit of the tensors": (".safetensors", lambda content: content[:-1] + bytes([content[-1] ^ 1])),
    "numbers cut short": (".json", lambda content: content[:-20]),
    "another step": (".json", lambda content: content.replace(b'"step": ', b'"step": 1', 1)),
}


@pytest.mark.parametrize("suffix, damage", DAMAGES.values(), ids=DAMAGES.keys())
def test_a_damaged_checkpoint_is_set_aside_and_the_one_before_it_used(
    interrupted, uninterrupted, capsys, suffix, damage
):
    newest = checkpoints(interrupted, chain()[0])[-1]
    file = newest.with_suffix(suffix)
    file.write_bytes(damage(file.read_bytes()))
    train_teacher(interrupted)
    said = capsys.readouterr().out
    assert "warning" in said
    assert newest.stem in said
    assert weights(interrupted, chain()[0]) == weights(uninterrupted, chain()[0])


def test_where_every_checkpoint_is_damaged_training_starts_anew(interrupted, uninterrupted, capsys):
    for described in checkpoints(interrupted, chain()[0]):
        described.with_suffix(".safetensors").write_bytes(b"")
    train_teacher(interrupted)
    assert capsys.readouterr().out.count("warning") == 2
    assert weights(interrupted, chain()[0]) == weights(uninterrupted, chain()[0])


def test_no_more_checkpoints_are_kept_than_asked_for_and_none_of_a_finished_stage(interrupted, uninterrupted):
    folder = interrupted / "work" / chain()[0].key / "checkpoints"
    assert len(list(folder.glob("step-*.json"))) in (2, 3)  # a third one while the oldest is being removed
    assert not list((uninterrupted / "work").glob("*"))


def test_a_finished_stage_is_left_alone(uninterrupted):
    manifests = [Store(uninterrupted).result(stage.key).path("manifest.json") for stage in chain()]
    before = [m.read_bytes() for m in manifests]
    train(str(uninterrupted))
    assert [m.read_bytes() for m in manifests] == before


def test_a_loss_that_is_not_finite_ends_training_with_the_step_and_the_rate(tmp_path):
    stages = chain(teacher__lr=1e30, teacher__schedule="constant", teacher__warmup=0)
    with pytest.raises(NonFiniteLossError, match=r"loss is (nan|-?inf) at step \d+ .*last good loss.*1e\+30"):
        train(str(tmp_path), stages=stages)
    assert not Store(tmp_path).done(stages[0].key)


def test_other_data_on_a_node_than_the_plan_knows_is_refused(tmp_path):
    config = parse({"name": "x", "data": {"name": "digits"}, "path": {"kind": "kac"}})
    stages = make(config, "0" * 64, "digits-cnn-v1", "teacher").trials[0].chain
    with pytest.raises(ValueError, match=r"digits.* differs from the driver's"):
        run_training_stage(stages[0], job(stages, tmp_path, 10), ALONE)


def test_progress_is_left_for_views_while_training_runs(killed):
    progress = json.loads((killed / "work" / chain()[0].key / "progress.json").read_text())
    assert 0 < progress["step"] < progress["steps"] == TEACHER_STEPS
