"""Finished results whose files are not what was written, on a real finished sweep and the same
sweep again."""

import json
import os
import pickle
import shutil
import threading
from collections.abc import Callable
from pathlib import Path

import fabricated
import in_process
import pytest
import torch
from commands import TINY
from stages import any_stage

from kaccore.checkpoint import write_tensors
from orchestrator.execution import stage_runner
from orchestrator.execution.stage_runner import LostResultError, Run, StageFailedError, run_stages
from orchestrator.host.printed import command
from orchestrator.plan.plan import Plan, Trial
from orchestrator.plan.stage import Stage
from orchestrator.settings import loading
from orchestrator.settings.loading import parse
from orchestrator.settings.yaml_reader import load_text
from orchestrator.store import integrity, leases, notices
from orchestrator.store.folder import Folder
from orchestrator.store.leases import LeaseWatch
from orchestrator.store.stage_result import DamagedError
from orchestrator.store.store import Store
from orchestrator.sweeps import opening
from orchestrator.sweeps.records import Records

pytestmark = pytest.mark.usefixtures("quick_measures")
TEACHER = any_stage("teacher", {"seed": 0}, label="teacher")
STUDENT = any_stage("student", {"intervals": 4}, (TEACHER,), "student 4")


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[0 if path.suffix == ".json" else len(content) // 2] ^= 1
    path.write_bytes(content)


def silently(path: Path) -> None:
    """A bit that has flipped on the disk: nobody has written the file."""
    before = path.stat()
    flip(path)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


DAMAGES: dict[str, Callable[[Path], None]] = {
    "flipped": flip,
    "cut": lambda path: path.write_bytes(path.read_bytes()[:-7]),
    "emptied": lambda path: path.write_bytes(b""),
    "removed": lambda path: path.unlink(),
}
FILES = [("teacher", "model.safetensors"), ("student", "losses.json"), ("reference", "reference.safetensors"),
         ("evaluation", "metrics.json"), ("evaluation", "samples.npz"), ("evaluation", "manifest.json")]  # fmt: skip


@pytest.fixture(scope="module")
def planned() -> Plan:
    return opening.make_plan(parse(load_text(TINY, "tiny")), "tiny")


@pytest.fixture(scope="module")
def finished(planned: Plan, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sweep of one trial that was really trained and measured."""
    root = tmp_path_factory.mktemp("finished") / "runs"
    Records(planned, Store(root)).open()
    in_process.run_trial(planned.trials[0], root)
    return root


@pytest.fixture
def store(finished: Path, tmp_path: Path) -> Store:
    return Store(shutil.copytree(finished, tmp_path / "runs"))


def stage_of(plan: Plan, kind: str) -> Stage:
    return next(s for s in plan.stages() if s.kind == kind)


def files(root: Path, stage: Stage) -> dict[str, bytes]:
    """The files of a result, without times that differ between two runs."""
    found = {p.name: p.read_bytes() for p in (root / "stages" / stage.key).iterdir()}
    return {
        k: v for k, v in found.items() if k not in ("manifest.json", "system.json", "metrics.json")
    }


def metrics(root: Path, stage: Stage) -> dict[str, float]:
    return {
        k: v
        for k, v in Store(root).result(stage.key).json("metrics.json").items()
        if k != "seconds_per_image"
    }


@pytest.mark.parametrize("kind, name", FILES, ids=[name for _, name in FILES])
@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_what_is_damaged_is_set_aside_with_a_line_and_made_again_to_the_last_digit(
    planned, store, finished, kind, name, damage
):
    stage, root = stage_of(planned, kind), Path(store.root)
    damage(root / "stages" / stage.key / name)
    (line,) = integrity.set_aside_damaged(store, list(planned.stages()))
    assert line.startswith(f"{stage.label} {stage.key}: {name} is ")
    assert f": set aside as damaged/{stage.key}-1, it is " in line and line.endswith(" again")
    (notice,) = notices.about(store.root, [stage])
    assert line == f"{stage.label} {stage.key}: {notice.text}"
    assert not store.done(stage.key) and store.lost_keys() == {stage.key}
    assert list((root / "damaged").iterdir()) == [root / "damaged" / f"{stage.key}-1"]
    in_process.run_trial(planned.trials[0], root)
    assert (
        store.lost_keys() == set()
        and integrity.set_aside_damaged(store, list(planned.stages())) == []
    )
    for each in planned.stages():
        assert files(root, each) == files(finished, each)
    assert metrics(root, planned.trials[0].evaluation) == metrics(
        finished, planned.trials[0].evaluation
    )


def test_a_second_start_asks_for_sizes_and_times_alone(planned, store, monkeypatch):
    stages_, teacher = list(planned.stages()), stage_of(planned, "teacher")
    assert integrity.set_aside_damaged(store, stages_) == []
    file = Path(store.root) / "stages" / teacher.key / "model.safetensors"
    silently(file)
    noted = (Path(store.root) / "verified.json").read_bytes()
    assert integrity.set_aside_damaged(store, stages_) == []  # as if it had not been read
    assert (Path(store.root) / "verified.json").read_bytes() == noted
    with pytest.raises(DamagedError, match=r"model\.safetensors is damaged \(its sha256 differs\)"):
        store.result(teacher.key).tensors("model.safetensors")
    os.utime(file)
    assert len(integrity.set_aside_damaged(store, stages_)) == 1


def test_a_large_file_is_read_at_the_start_only_where_it_was_written_since(
    planned, store, monkeypatch
):
    stages_, teacher = list(planned.stages()), stage_of(planned, "teacher")
    monkeypatch.setattr(integrity, "HASHED", 1000.0)
    file = Path(store.root) / "stages" / teacher.key / "model.safetensors"
    before = file.read_bytes()
    flip(file)
    assert (
        integrity.set_aside_damaged(store, stages_) == []
    )  # never seen before, and larger than that
    file.write_bytes(before)
    assert integrity.set_aside_damaged(store, stages_) == []
    flip(file)
    assert len(integrity.set_aside_damaged(store, stages_)) == 1


@pytest.mark.parametrize("content", ["", "[", "[]", '{"x": 1}'])
def test_a_damaged_note_of_what_was_seen_is_written_anew(planned, store, content):
    (Path(store.root) / "verified.json").write_text(content)
    assert integrity.set_aside_damaged(store, list(planned.stages())) == []
    noted = json.loads((Path(store.root) / "verified.json").read_text())
    assert noted.keys() == {s.key for s in planned.stages()}


def test_trials_of_what_was_set_aside_are_open_until_it_is_made_again(planned, store):
    teacher = stage_of(planned, "teacher")
    flip(Path(store.root) / "stages" / teacher.key / "model.safetensors")
    integrity.set_aside_damaged(store, list(planned.stages()))
    for _ in range(2):  # and are still so for a run after one that was interrupted
        records = Records(planned, store)
        records.open()
        assert [e.status for e in records.endings] == ["waiting"]
    in_process.run_trial(planned.trials[0], Path(store.root))
    records = Records(planned, store)
    records.open()
    assert [e.status for e in records.endings] == ["done"]


def test_a_result_that_another_process_is_making_again_is_waited_for_and_not_set_aside(
    planned, store, monkeypatch
):
    monkeypatch.setattr(integrity, "POLL_SECONDS", 0.05)
    teacher = stage_of(planned, "teacher")
    folder = Path(store.root) / "stages" / teacher.key
    sound = shutil.copytree(folder, folder.parents[1] / "sound")
    flip(folder / "model.safetensors")
    lease = LeaseWatch(store.work(teacher.key)).try_take()
    assert lease is not None
    said: list[str] = []
    with lease:
        waiting = threading.Thread(target=lambda: said.append(integrity.set_aside(store, teacher)))
        waiting.start()
        shutil.rmtree(folder)
        sound.rename(folder)
        waiting.join(60)
    assert said == [""] and store.done(teacher.key) and store.lost_keys() == set()


def published(store: Store, stage: Stage) -> None:
    folder = store.gather(stage)
    write_tensors(folder / "model.safetensors", {"w": torch.ones(8)})
    (folder / "losses.json").write_text("[1]")
    store.publish(stage, folder, 1.0)


@pytest.mark.system
def test_on_either_kind_of_store_a_damaged_result_is_found_and_set_aside_as_a_whole(root):
    store = Store(root)
    for stage in (TEACHER, STUDENT):
        published(store, stage)
    assert integrity.set_aside_damaged(store, [TEACHER, STUDENT]) == []
    file = store.result(TEACHER.key).file("losses.json")
    file.put(b"[1, 2]")
    (line,) = integrity.set_aside_damaged(store, [TEACHER, STUDENT])
    assert "losses.json is damaged (it has 6 bytes, expected 3)" in line
    assert not store.done(TEACHER.key) and store.done(STUDENT.key)
    assert (root / "stages" / TEACHER.key).find("*") == []
    kept = (
        Folder(root / "damaged" / f"{TEACHER.key}-1")
        if isinstance(root, Folder)
        else root / "damaged"
    )
    assert kept.find("*") != [] and store.lost_keys() == {TEACHER.key}
    published(store, TEACHER)
    store.result(TEACHER.key).file("losses.json").put(b"")
    (line,) = integrity.set_aside_damaged(store, [TEACHER])
    assert f"damaged/{TEACHER.key}-2" in line


def test_on_s3_a_start_compares_sizes_and_a_reader_checksums(bucket):
    store = Store(bucket)
    published(store, TEACHER)
    store.result(TEACHER.key).file("losses.json").put(b"[2]")
    assert integrity.set_aside_damaged(store, [TEACHER]) == []
    with pytest.raises(DamagedError, match=r"losses\.json is damaged"):
        store.result(TEACHER.key).json("losses.json")
    assert integrity.lost_among(store, [TEACHER], read_damaged_file=True) == [TEACHER]


def test_on_s3_a_damaged_copy_on_this_machine_is_fetched_anew_and_not_taken_for_the_object(bucket):
    store = Store(bucket)
    published(store, TEACHER)
    copy = store.result(TEACHER.key).path("model.safetensors")
    flip(copy)
    assert set(store.result(TEACHER.key).tensors("model.safetensors")) == {"w"}
    assert integrity.lost_among(store, [TEACHER], read_damaged_file=True) == []


def test_a_result_whose_manifest_was_removed_makes_room_for_the_next_one(tmp_path):
    store = Store(tmp_path)
    published(store, TEACHER)
    (tmp_path / "stages" / TEACHER.key / "manifest.json").unlink()
    published(store, TEACHER)  # as a run that began before
    assert store.result(TEACHER.key).json("losses.json") == [1]
    (notice,) = notices.about(store.root, [TEACHER])
    assert "manifest.json is missing: set aside as" in notice.text


def test_who_finds_a_damaged_parent_gives_up_the_stage_at_once_and_names_the_parent(tmp_path):
    store, calls = Store(tmp_path), []
    published(store, TEACHER)
    integrity.set_aside_damaged(store, [TEACHER])
    silently(tmp_path / "stages" / TEACHER.key / "model.safetensors")

    def execute(asked: list[Stage]) -> None:
        calls.append(len(asked))
        store.result(TEACHER.key).tensors("model.safetensors")

    with pytest.raises(LostResultError) as raised:
        run_stages([STUDENT], store, "run", execute)
    assert raised.value.stages == [TEACHER] and calls == [1]
    assert store.failure(STUDENT) is None


def test_a_fault_that_is_none_of_the_parents_is_no_reason_to_set_them_aside(tmp_path):
    store = Store(tmp_path)
    published(store, TEACHER)

    def execute(asked: list[Stage]) -> None:
        raise MemoryError("out of memory")

    with pytest.raises(StageFailedError, match="out of memory"):
        run_stages([STUDENT], store, "run", execute)
    assert store.done(TEACHER.key)


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a coordinator starts on Ray is done in this process."""

    def train(asked: list[Stage], trial: Trial, run: Run) -> None:
        in_process.train(tuple(asked), trial.config.data, Path(run.storage))

    def measure(stage: Stage, trial: Trial, run: Run) -> None:
        in_process.measure_by(trial, Path(run.storage))

    def evaluate(stage: Stage, trial: Trial, run: Run) -> None:
        in_process.run_trial(trial, Path(run.storage))

    for name, function in (("train", train), ("compute_features", measure), ("evaluate", evaluate)):
        monkeypatch.setattr(stage_runner, name, function)


@pytest.mark.parametrize("kind, name", [("teacher", "model.safetensors"), ("student", "model.safetensors"),
                                        ("reference", "reference.safetensors")])  # fmt: skip
def test_a_trial_that_comes_upon_a_damaged_result_has_it_made_again_and_ends_well(
    planned, store, finished, here, kind, name
):
    trial, root = planned.trials[0], Path(store.root)
    evaluation, asked = trial.evaluation, stage_of(planned, kind)
    assert (
        evaluation is not None and integrity.set_aside_damaged(store, list(planned.stages())) == []
    )
    last = [trial.chain[-1]] if kind == "teacher" else []
    for stage in (evaluation, *last):  # so that there is something to do
        store.remove(stage.key)
    silently(root / "stages" / asked.key / name)
    stage_runner.complete_trial(trial, Run("run", str(root), trial.config))
    for each in planned.stages():
        assert files(root, each) == files(finished, each)
    assert metrics(root, evaluation) == metrics(finished, evaluation)
    (notice,) = notices.about(store.root, planned.stages())
    assert (notice.key, notice.text.split(":")[0]) == (
        asked.key,
        f"{name} is damaged (its sha256 differs)",
    )


def test_an_error_about_damage_comes_whole_out_of_another_process():
    error = DamagedError("runs", {"a": "x is missing", "b": "y is damaged"})
    again = pickle.loads(pickle.dumps(error))
    assert (again.root, again.problems, str(again)) == (error.root, error.problems, str(error))


def test_a_store_elsewhere_is_named_in_the_remedy(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    asked = fabricated.experiment(storage="runs")
    records = fabricated.sweep(tmp_path / "runs", asked)
    error = DamagedError(str(records.store.root), {records.plan.trials[0].key: "x is missing"})
    file = f"runs/sweeps/fabricated/{records.plan.id}/config.yaml"
    assert f"run the sweep again: {command('sweep', file)}; " in integrity.remedy(error)
    assert opening.make_plan(loading.load(file), file).id == records.plan.id  # it is the same sweep
    moved = shutil.move(tmp_path / "runs", tmp_path / "moved")
    error = DamagedError(str(moved), error.problems)
    assert f"--set storage={moved}; " in integrity.remedy(error)
    assert "python -m orchestrator.sweep FILE" in integrity.remedy(
        DamagedError(str(moved), {"other": "x"})
    )


def test_the_lease_under_which_a_result_was_set_aside_is_free_again(planned, store):
    teacher = stage_of(planned, "teacher")
    flip(Path(store.root) / "stages" / teacher.key / "model.safetensors")
    integrity.set_aside_damaged(store, [teacher])
    assert leases.LeaseWatch(store.work(teacher.key)).try_take() is not None
