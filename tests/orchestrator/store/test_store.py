import json
from pathlib import Path

import pytest
import torch
from forked import beside
from stages import any_stage

from kaccore.checkpoint import write_tensors
from kaccore.files import CorruptFileError, file_sha256
from orchestrator.plan.stage import Stage
from orchestrator.store.folder import Folder
from orchestrator.store.store import Store

TEACHER = any_stage("teacher", {"seed": 0}, label="teacher")
STUDENT = any_stage("student", {"intervals": 4}, (TEACHER,), "student 4")


def gathered(store: Store, stage: Stage, value: float = 1.0) -> Path:
    folder = store.gather(stage)
    write_tensors(folder / "model.safetensors", {"w": torch.full((8,), value)})
    (folder / "losses.json").write_text(json.dumps([value]))
    return folder


def publish_many(root: str, count: int) -> None:
    store = Store(root)
    for i in range(count):
        stage = any_stage("teacher", {"seed": i})
        folder = store.gather(stage)
        for name in ("a", "b", "c"):
            write_tensors(folder / f"{name}.safetensors", {"w": torch.full((50_000,), float(i))})
        store.publish(stage, folder, 0.0)


def test_a_published_result_says_what_it_is_and_what_its_files_are(root):
    store = Store(root)
    result = store.publish(STUDENT, gathered(store, STUDENT), 1.23456)
    assert result.folder == root.absolute() / "stages" / STUDENT.key
    manifest = json.loads((result.folder / "manifest.json").read_text())
    assert (manifest["kind"], manifest["key"], manifest["parents"]) == (
        "student",
        STUDENT.key,
        [TEACHER.key],
    )
    assert (manifest["config"], manifest["seconds"]) == ({"intervals": 4}, 1.235)
    assert set(manifest["files"]) == {"model.safetensors", "losses.json"}
    for name, said in manifest["files"].items():
        assert said == {
            "sha256": file_sha256(result.path(name)),
            "bytes": result.path(name).stat().st_size,
        }
    assert not (root / "work" / STUDENT.key).is_dir()


def test_a_result_says_how_many_workers_made_it_on_average(root):
    store = Store(root)
    assert store.workers(TEACHER.key, most=4) == 4
    store.publish(TEACHER, gathered(store, TEACHER), 9.0, workers=8 / 3)
    assert store.workers(TEACHER.key, most=4) == 2.667
    store.publish(STUDENT, gathered(store, STUDENT), 9.0)  # as earlier versions did
    assert store.workers(STUDENT.key, most=4) == 4


def test_a_chain_reaches_more_with_each_part_checkpoint_and_stage(root):
    store = Store(root)
    found = [store.reached([TEACHER, STUDENT])]
    (store.work(TEACHER.key) / "parts").mkdir()
    (store.work(TEACHER.key) / "parts" / "000000000.safetensors").put(b"")
    found.append(store.reached([TEACHER, STUDENT]))
    store.publish(TEACHER, gathered(store, TEACHER), 1.0)
    found.append(store.reached([TEACHER, STUDENT]))
    (store.work(STUDENT.key) / "checkpoints").mkdir()
    for step in (500, 12_000):
        (store.work(STUDENT.key) / "checkpoints" / f"step-{step:08d}.json").put(b"")
        found.append(store.reached([TEACHER, STUDENT]))
    store.publish(STUDENT, gathered(store, STUDENT), 1.0)
    found.append(store.reached([TEACHER, STUDENT]))
    assert found == sorted(set(found)) and found[-1] == (2, 0, "")


def test_what_is_published_is_what_is_read(root):
    store = Store(root)
    store.publish(TEACHER, gathered(store, TEACHER, 2.5), 0.0)
    found = Store(root).result(TEACHER.key)
    assert torch.equal(found.tensors("model.safetensors")["w"], torch.full((8,), 2.5))
    assert found.json("losses.json") == [2.5]


def test_a_stage_is_not_done_before_it_is_published(root):
    store = Store(root)
    folder = gathered(store, TEACHER)
    assert not store.done(TEACHER.key)
    with pytest.raises(KeyError, match=TEACHER.key):
        store.result(TEACHER.key)
    store.publish(TEACHER, folder, 0.0)
    assert store.done(TEACHER.key)


def test_a_reader_beside_a_writer_sees_whole_results_only(root):
    count = 40
    writer = beside(root).Process(target=publish_many, args=(str(root), count))
    writer.start()
    store, seen = Store(root), set[str]()
    while writer.is_alive() or len(seen) < count:
        there = {
            p.name
            for p in (root / "stages").find("*")
            if isinstance(root, Folder) or store.done(p.name)
        }
        for key in there - seen:
            result = store.result(key)
            assert set(result.manifest["files"]) == {
                "a.safetensors",
                "b.safetensors",
                "c.safetensors",
            }
            for name, said in result.manifest["files"].items():
                assert file_sha256(result.path(name)) == said["sha256"]
        seen = there
        assert writer.exitcode in (None, 0)
    writer.join()
    assert len(seen) == count


def test_the_first_of_two_publishers_wins_and_the_second_gets_its_result(root, tmp_path):
    store, second = Store(root), tmp_path / "second"
    second.mkdir()
    for file in gathered(store, STUDENT, 2.0).iterdir():
        file.rename(second / file.name)
    store.publish(TEACHER, gathered(store, TEACHER, 1.0), 0.0)
    manifest = (root / "stages" / TEACHER.key / "manifest.json").read_bytes()
    result = store.publish(TEACHER, second, 0.0)
    assert float(result.tensors("model.safetensors")["w"][0]) == 1.0
    assert (result.folder / "manifest.json").read_bytes() == manifest
    files = (root / "stages" / TEACHER.key).find("*/*" if "at" in manifest.decode() else "*.*")
    assert (
        sum(p.name == "model.safetensors" for p in files) == 1
    )  # the second's are not left beside


def test_on_s3_what_a_killed_publisher_has_left_is_no_result_and_goes_with_the_next_one(bucket):
    left = bucket / "stages" / TEACHER.key / "0000" / "model.safetensors"
    left.put(b"half of it")
    store = Store(bucket)
    assert not store.done(TEACHER.key)
    result = store.publish(TEACHER, gathered(store, TEACHER), 0.0)
    assert not left.exists()
    assert set(result.tensors("model.safetensors")) == {"w"}


def test_gathering_again_forgets_what_an_interrupted_attempt_left(root):
    store = Store(root)
    (gathered(store, TEACHER) / "half-written").write_text("x")
    assert list(store.gather(TEACHER).iterdir()) == []


def test_a_damaged_file_of_a_result_is_refused(root):
    store = Store(root)
    result = store.publish(TEACHER, gathered(store, TEACHER), 0.0)
    content = bytearray(result.file("model.safetensors").read_bytes())
    content[-1] ^= 1
    result.file("model.safetensors").put(bytes(content))
    with pytest.raises(CorruptFileError, match=r"model\.safetensors"):
        store.result(TEACHER.key).tensors("model.safetensors")


@pytest.mark.parametrize("left", [b"", b'{"kind": "teacher"'])
def test_a_damaged_manifest_is_refused(root, left):
    store = Store(root)
    result = store.publish(TEACHER, gathered(store, TEACHER), 0.0)
    (result.folder / "manifest.json").put(left)
    with pytest.raises(CorruptFileError, match=r"manifest\.json"):
        store.result(TEACHER.key).tensors("model.safetensors")
