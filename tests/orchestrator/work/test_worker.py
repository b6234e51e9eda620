import json
import math
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from forked import beside
from stages import data_block

from kaccore.data import load
from kaccore.training import NonFiniteLossError, Training
from orchestrator.plan.plan import alike, make
from orchestrator.plan.stage import Stage
from orchestrator.settings.loading import override, parse
from orchestrator.store import layout, notices, run_requests
from orchestrator.store.leases import Lease, LeaseLostError, LeaseWatch
from orchestrator.store.places import place_of
from orchestrator.store.s3_place import S3Place
from orchestrator.store.store import Store
from orchestrator.work import building, machine_use, training_log
from orchestrator.work.batch_loss import Group
from orchestrator.work.job import Job, Saving
from orchestrator.work.training_log import TrainingLog
from orchestrator.work.worker import last_words, run_stage

PATIENCE = 300.0
ALONE = Group(rank=0, world=1, device=torch.device("cpu"))
TEACHER_STEPS, STUDENT_STEPS = 60, 30


def chain(**settings: object) -> tuple[Stage, ...]:
    base = parse(
        {
            "name": "workers",
            "data": {"name": "digits"},
            "path": {"kind": "kac"},
            "model": {"channels": 8, "multipliers": [1], "patch": 4, "dropout": 0.1},
            "teacher": {"steps": TEACHER_STEPS, "batch_size": 8, "warmup": 5},
            "distill": {
                "intervals": [2],
                "teacher_steps": 4,
                "steps": STUDENT_STEPS,
                "batch_size": 8,
            },
            "sampling": {"steps": 2},
        }
    )
    config = override(base, {key.replace("__", "."): value for key, value in settings.items()})
    return (
        make(config, alike(load("digits").fingerprint, "digits-cnn-v1"), "student").trials[0].chain
    )


def job(stages: tuple[Stage, ...], root: str | Path, every: int) -> Job:
    leases = (0,) * len(stages)  # run without coordinators, and so without leases
    return Job(
        stages,
        leases,
        str(root),
        data_block(name="digits"),
        Saving(every, 60.0, keep=2),
        threads=1,
        run="run",
    )


def train(root: str, every: int = 20, stages: tuple[Stage, ...] | None = None) -> None:
    """Train `stages`, by default the whole chain, with a checkpoint `every` so many steps."""
    torch.set_num_threads(1)
    stages = stages or chain()
    for stage in stages:
        run_stage(stage, job(stages, root, every), ALONE)


def checkpoints(root: Path | S3Place, stage: Stage) -> list[Any]:
    return (place_of(root) / "work" / stage.key / "checkpoints").find("step-*.json")


def train_up_to(root: str, key: str, train_all: Callable[[str, int], None]) -> None:
    """Train with a checkpoint every five steps, and wait in the stage `key` once it has two: to be
    killed there, however short its training is."""
    after = TrainingLog.after

    def waiting(log: TrainingLog, step: int, *arguments: Any) -> None:
        after(log, step, *arguments)
        if log.stage.key == key and step == 10:
            time.sleep(PATIENCE)

    TrainingLog.after = waiting  # type: ignore[method-assign]  # of this process, which is killed
    train_all(root, 5)


def kill_in(stage: Stage, root: Path | S3Place) -> None:
    """Train in a process that is killed once it has written two checkpoints of `stage`."""
    process = beside(root).Process(target=train_up_to, args=(str(root), stage.key, train))
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


def weights(root: Path | S3Place, stage: Stage) -> bytes:
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


def test_what_a_stage_is_called_changes_no_weight(uninterrupted, tmp_path):
    teacher, student = chain()
    renamed = replace(teacher, label="the network that teaches")
    stages = renamed, replace(student, label="another", parents=(renamed,))
    train(str(tmp_path), stages=stages)
    for before, after in zip(chain(), stages, strict=True):
        assert weights(tmp_path, after) == weights(uninterrupted, before)


def test_training_that_was_killed_twice_ends_with_the_weights_of_the_uninterrupted_one(
    interrupted, uninterrupted
):
    teacher, student = chain()
    kill_in(student, interrupted)  # which first resumes and finishes the teacher
    assert Store(interrupted).done(teacher.key)
    train(str(interrupted))
    assert weights(interrupted, teacher) == weights(uninterrupted, teacher)
    assert weights(interrupted, student) == weights(uninterrupted, student)


def test_a_resumed_loss_curve_has_every_point_once(interrupted, uninterrupted):
    train_teacher(interrupted)
    teacher = chain()[0].key
    one, other = (
        Store(root).result(teacher).json("losses.json") for root in (interrupted, uninterrupted)
    )
    assert [p["step"] for p in one] == [p["step"] for p in other]
    assert one[-1]["step"] == TEACHER_STEPS
    assert all(math.isfinite(p["loss"]) for p in one)


def test_what_a_training_took_of_its_machine_is_kept_over_an_interruption(tmp_path, monkeypatch):
    (stage,), run = chain()[:1], Training.run

    def stopped(self: Training, *arguments: object) -> Iterator[tuple[int, dict[str, float]]]:
        for step, metrics in run(self, *arguments):
            if step == 57:
                raise LeaseLostError("stopped")
            yield step, metrics

    monkeypatch.setattr(
        machine_use, "EVERY_SECONDS", 0.0
    )  # a sample at every step, and one at the end
    with monkeypatch.context() as interrupted, pytest.raises(LeaseLostError):
        interrupted.setattr(Training, "run", stopped)
        train(str(tmp_path), 10, (stage,))
    train(str(tmp_path), 10, (stage,))
    points = Store(tmp_path).result(stage.key).json("system.json")
    assert [p["step"] for p in points] == [*range(1, TEACHER_STEPS + 1), TEACHER_STEPS]
    assert [p["seconds"] for p in points] == sorted(p["seconds"] for p in points)


def test_how_often_training_is_saved_does_not_change_its_result(uninterrupted, tmp_path):
    train(str(tmp_path), 10**6)
    for stage in chain():
        assert weights(tmp_path, stage) == weights(uninterrupted, stage)


DAMAGES = {
    "tensors cut short": (".safetensors", lambda content: content[:-100]),
    "a bit of the tensors": (
        ".safetensors",
        lambda content: content[:-1] + bytes([content[-1] ^ 1]),
    ),
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
    (notice,) = notices.about(place_of(interrupted), chain())
    assert newest.stem in notice.text and notice.label == "teacher"
    assert f"warning: {notice}" in capsys.readouterr().err
    assert weights(interrupted, chain()[0]) == weights(uninterrupted, chain()[0])


def test_where_every_checkpoint_is_damaged_training_starts_anew(interrupted, uninterrupted):
    for described in checkpoints(interrupted, chain()[0]):
        described.with_suffix(".safetensors").write_bytes(b"")
    train_teacher(interrupted)
    assert len(notices.about(place_of(interrupted), chain())) == 2
    assert weights(interrupted, chain()[0]) == weights(uninterrupted, chain()[0])


def test_no_more_checkpoints_are_kept_than_asked_for_and_none_of_a_finished_stage(
    interrupted, uninterrupted
):
    folder = interrupted / "work" / chain()[0].key / "checkpoints"
    assert len(list(folder.glob("step-*.json"))) in (
        2,
        3,
        4,
    )  # with the best one, and another until it is removed
    assert not list((uninterrupted / "work").glob("*"))


def test_the_best_checkpoint_stays_however_old_and_its_weights_are_kept_beside_the_last(
    tmp_path, monkeypatch
):
    (stage,) = chain(teacher__lr=1e-2)[:1]
    kept: dict[int, list[str]] = {}

    def rising(self: Training, *arguments: object) -> Iterator[tuple[int, dict[str, float]]]:
        for step, metrics in run(self, *arguments):
            yield (
                step,
                {**metrics, "loss": float(step) if step > 10 else 100.0 - step},
            )  # best around step 10
            kept[step] = [p.stem for p in checkpoints(tmp_path, stage)]

    run = Training.run
    monkeypatch.setattr(Training, "run", rising)
    train(str(tmp_path), 10, (stage,))
    assert kept[TEACHER_STEPS - 1] == ["step-00000020", "step-00000040", "step-00000050"]
    result = Store(tmp_path).result(stage.key)
    assert {"model.safetensors", "best.safetensors"} <= set(result.manifest["files"])
    best, last = (result.tensors(f"{name}.safetensors") for name in ("best", "model"))
    assert best.keys() == last.keys()
    assert any(not torch.equal(best[k], last[k]) for k in best)


def test_more_steps_at_a_constant_rate_go_on_from_the_end_of_fewer(tmp_path):
    settings = {"teacher__schedule": "constant"}
    (short,) = chain(**settings, teacher__steps=50)[:1]
    (long,) = chain(**settings, teacher__steps=80)[:1]
    looked_at = layout.look(10)
    (Store(tmp_path / "extended").work(short.key) / looked_at).put(b"a picture")
    train(str(tmp_path / "extended"), 10**6, (short,))
    train(str(tmp_path / "at once"), 10**6, (long,))
    log = TrainingLog(*asked(tmp_path / "extended", long))
    log.resume()
    assert log.training.step == 50
    train(str(tmp_path / "extended"), 10**6, (long,))
    assert weights(tmp_path / "extended", long) == weights(tmp_path / "at once", long)
    for stage in (short, long):  # the looks at it go along
        assert Store(tmp_path / "extended").result(stage.key).content(looked_at) == b"a picture"


def test_an_order_stops_a_stage_with_a_checkpoint_from_which_it_goes_on(tmp_path, monkeypatch):
    (stage,), steps = chain()[:1], Training.run
    store, order = Store(tmp_path), run_requests.stopped
    orders = job((stage,), tmp_path, 1).orders

    def ordered(self: Training, *arguments: object) -> Iterator[tuple[int, dict[str, float]]]:
        for step, metrics in steps(self, *arguments):
            if step == 20:
                orders.change((), {order(stage.key), order("another")})
            yield step, metrics

    monkeypatch.setattr(training_log, "PROGRESS_SECONDS", 0.0)
    monkeypatch.setattr(run_requests, "FRESH_SECONDS", 0.0)
    with monkeypatch.context() as patch:
        patch.setattr(Training, "run", ordered)
        with pytest.raises(LeaseLostError, match="stopped by request"):
            train(str(tmp_path), 10**6, (stage,))
    assert [p.name for p in checkpoints(tmp_path, stage)] == ["step-00000020.json"]
    assert isinstance(LeaseWatch(store.work(stage.key)).try_take(), Lease)  # it was handed over
    with pytest.raises(LeaseLostError, match="stopped by request"):
        train(str(tmp_path), 10**6, (stage,))  # before its first step
    orders.change({order(stage.key)}, ())
    for lease in store.work(stage.key).find("lease.*"):
        lease.unlink()
    train(str(tmp_path), 10**6, (stage,))
    train(str(tmp_path / "at once"), 10**6, (stage,))
    assert weights(tmp_path, stage) == weights(tmp_path / "at once", stage)


@pytest.mark.parametrize("damaged", ["step-00000050.safetensors", "manifest.json"])
def test_where_the_shorter_training_is_damaged_the_longer_one_starts_anew_and_says_so(
    tmp_path, damaged
):
    settings = {"teacher__schedule": "constant"}
    (short,) = chain(**settings, teacher__steps=50)[:1]
    (long,) = chain(**settings, teacher__steps=60)[:1]
    train(str(tmp_path), 10**6, (short,))
    (tmp_path / "stages" / short.key / damaged).write_bytes(b"")
    before = sorted((tmp_path / "stages" / short.key).iterdir())
    log = TrainingLog(*asked(tmp_path, long))
    log.resume()
    assert log.training.step == 0
    (notice,) = notices.about(place_of(tmp_path), [long])
    assert "whose end is damaged" in notice.text and damaged in notice.text
    assert (
        sorted((tmp_path / "stages" / short.key).iterdir()) == before
    )  # another stage's result stays as it is


def test_that_the_best_checkpoint_is_damaged_is_said_where_the_report_finds_it(
    tmp_path, monkeypatch
):
    (stage,), run = chain()[:1], Training.run

    def rising(self: Training, *arguments: object) -> Iterator[tuple[int, dict[str, float]]]:
        for step, metrics in run(self, *arguments):
            yield step, {**metrics, "loss": float(step)}
            if step == TEACHER_STEPS - 1:
                checkpoints(tmp_path, stage)[0].with_suffix(".safetensors").write_bytes(b"")

    monkeypatch.setattr(Training, "run", rising)
    train(str(tmp_path), 10, (stage,))
    (notice,) = notices.about(place_of(tmp_path), [stage])
    assert "the best checkpoint is damaged" in notice.text
    assert not Store(tmp_path).result(stage.key).has("best.safetensors")


@pytest.mark.parametrize(
    "other", [{"teacher__schedule": "cosine"}, {"teacher__lr": 1e-4}, {"seed": 1}]
)
def test_nothing_goes_on_from_a_training_that_differs_in_more_than_its_steps(tmp_path, other):
    (short,) = chain(teacher__schedule="constant", teacher__steps=5)[:1]
    train(str(tmp_path), 10**6, (short,))
    (long,) = chain(**{"teacher__schedule": "constant", "teacher__steps": 8, **other})[:1]
    log = TrainingLog(*asked(tmp_path, long))
    log.resume()
    assert log.training.step == 0


def asked(root: Path, stage: Stage) -> tuple[Stage, Store, Training, Saving, int]:
    model = building.network(stage, load("digits"))
    return (
        stage,
        Store(root),
        Training(model, building.optimiser_settings(stage)),
        Saving(10, 60.0, keep=2),
        0,
    )


def test_training_stops_where_another_process_has_taken_the_stage_over(tmp_path, monkeypatch):
    monkeypatch.setattr(training_log, "PROGRESS_SECONDS", 0.0)
    (stage,) = chain()[:1]
    (
        Store(tmp_path).work(stage.key) / "lease.1"
    ).touch()  # newer than number 0, under which this one runs
    with pytest.raises(LeaseLostError, match="taken over"):
        train(str(tmp_path), 10, (stage,))
    assert not Store(tmp_path).done(stage.key)


def test_a_finished_stage_is_left_alone(uninterrupted):
    manifests = [Store(uninterrupted).result(stage.key).path("manifest.json") for stage in chain()]
    before = [m.read_bytes() for m in manifests]
    train(str(uninterrupted))
    assert [m.read_bytes() for m in manifests] == before


def test_a_loss_that_is_not_finite_ends_training_with_the_step_and_the_rate(tmp_path):
    stages = chain(teacher__lr=1e30, teacher__schedule="constant", teacher__warmup=0)
    with pytest.raises(
        NonFiniteLossError, match=r"loss is (nan|-?inf) at step \d+ .*last good loss.*1e\+30"
    ):
        train(str(tmp_path), stages=stages)
    assert not Store(tmp_path).done(stages[0].key)


def test_other_data_on_a_node_than_the_plan_knows_is_refused(tmp_path):
    config = parse({"name": "x", "data": {"name": "digits"}, "path": {"kind": "kac"}})
    stages = make(config, alike("0" * 64, "digits-cnn-v1"), "teacher").trials[0].chain
    with pytest.raises(ValueError, match=r"digits.* differs from the driver's"):
        run_stage(stages[0], job(stages, tmp_path, 10), ALONE)


def test_progress_is_left_for_views_while_training_runs(killed):
    progress = json.loads((killed / "work" / chain()[0].key / "progress.json").read_text())
    assert 0 < progress["step"] < progress["steps"] == TEACHER_STEPS


@pytest.mark.parametrize(
    ("lease", "said"), [(None, False), (1, True), (2, False)], ids=["finished", "held", "lost"]
)
def test_a_worker_that_fails_says_why_only_where_nobody_has_gone_on_with_its_stage(
    tmp_path, lease, said
):
    (stage,), store = chain()[:1], Store(tmp_path)
    if lease is not None:
        store.work(stage.key)
        (tmp_path / "work" / stage.key / f"lease.{lease}").touch()
    last_words(
        stage, replace(job((stage,), tmp_path, 5), leases=(1,)), RuntimeError("its peer is gone")
    )
    assert (tmp_path / "work" / stage.key / "failure.json").exists() == said
    assert (tmp_path / "work").exists() == (lease is not None)
