import json
import multiprocessing
from pathlib import Path

import pytest
import torch

from kaccore.checkpoint import write_tensors
from kaccore.files import CorruptFileError, file_sha256
from orchestrator.graph import Stage
from orchestrator.store import Store

SPAWN = multiprocessing.get_context("spawn")
TEACHER = Stage("teacher", {"seed": 0}, label="teacher")
STUDENT = Stage("student", {"intervals": 4}, (TEACHER,), "student 4")


def gathered(store: Store, stage: Stage, value: float = 1.0) -> Path:
    folder = store.gather(stage)
    write_tensors(folder / "model.safetensors", {"w": torch.full((8,), value)})
    (folder / "losses.json").write_text(json.dumps([value]))
    return folder


def publish_many(root: str, count: int) -> None:
    store = Store(root)
    for i in range(count):
        stage = Stage("teacher", {"seed": i})
        folder = store.gather(stage)
        for name in ("a", "b", "c"):
            write_tensors(folder / f"{name}.safetensors", {"w": torch.full((50_000,), float(i))})
        store.publish(stage, folder, 0.0)


def test_a_published_result_says_what_it_is_and_what_its_files_are(tmp_path):
    store = Store(tmp_path)
    result = store.publish(STUDENT, gathered(store, STUDENT), 1.23456)
    assert result.folder == tmp_path / "stages" / STUDENT.key
    manifest = json.loads((result.folder / "manifest.json").read_text())
    assert (manifest["kind"], manifest["key"], manifest["parents"]) == ("student", STUDENT.key, [TEACHER.key])
    assert (manifest["config"], manifest["seconds"]) == ({"intervals": 4}, 1.235)
    assert set(manifest["files"]) == {"model.safetensors", "losses.json"}
    for name, said in manifest["files"].items():
        assert said == {"sha256": file_sha256(result.path(name)), "bytes": result.path(name).stat().st_size}
    assert not (tmp_path / "work" / STUDENT.key).exists()


def test_what_is_published_is_what_is_read(tmp_path):
    store = Store(tmp_path)
    store.publish(TEACHER, gathered(store, TEACHER, 2.5), 0.0)
    found = Store(tmp_path).result(TEACHER.key)
    assert torch.equal(found.tensors("model.safetensors")["w"], torch.full((8,), 2.5))
    assert found.json("losses.json") == [2.5]


def test_a_stage_is_not_done_before_it_is_published(tmp_path):
    store = Store(tmp_path)
    folder = gathered(store, TEACHER)
    assert not store.done(TEACHER.key)
    with pytest.raises(KeyError, match=TEACHER.key):
        store.result(TEACHER.key)
    store.publish(TEACHER, folder, 0.0)
    assert store.done(TEACHER.key)


def test_a_reader_beside_a_writer_sees_whole_results_only(tmp_path):
    count = 40
    writer = SPAWN.Process(target=publish_many, args=(str(tmp_path), count))
    writer.start()
    seen: set[Path] = set()
    while writer.is_alive() or len(seen) < count:
        folders = set((tmp_path / "stages").glob("*"))
        for folder in folders - seen:
            manifest = json.loads((folder / "manifest.json").read_text())
            found = {p.name: file_sha256(p) for p in folder.iterdir() if p.name != "manifest.json"}
            assert found == {name: said["sha256"] for name, said in manifest["files"].items()}
            assert set(found) == {"a.safetensors", "b.safetensors", "c.safetensors"}
        seen = folders
        assert writer.exitcode in (None, 0)
    writer.join()
    assert len(seen) == count


def test_the_first_of_two_publishers_wins_and_the_second_gets_its_result(tmp_path):
    store = Store(tmp_path)
    first, second = gathered(store, TEACHER, 1.0), tmp_path / "work" / TEACHER.key / "result.0"
    second.mkdir()
    for file in gathered(store, STUDENT, 2.0).iterdir():
        file.rename(second / file.name)
    store.publish(TEACHER, first, 0.0)
    manifest = (tmp_path / "stages" / TEACHER.key / "manifest.json").read_bytes()
    result = store.publish(TEACHER, second, 0.0)
    assert float(result.tensors("model.safetensors")["w"][0]) == 1.0
    assert (result.folder / "manifest.json").read_bytes() == manifest


def test_gathering_again_forgets_what_an_interrupted_attempt_left(tmp_path):
    store = Store(tmp_path)
    (gathered(store, TEACHER) / "half-written").write_text("x")
    assert list(store.gather(TEACHER).iterdir()) == []


def test_a_damaged_file_of_a_result_is_refused(tmp_path):
    store = Store(tmp_path)
    result = store.publish(TEACHER, gathered(store, TEACHER), 0.0)
    content = bytearray(result.path("model.safetensors").read_bytes())
    content[-1] ^= 1
    result.path("model.safetensors").write_bytes(content)
    with pytest.raises(CorruptFileError, match=r"model\.safetensors"):
        store.result(TEACHER.key).tensors("model.safetensors")


@pytest.mark.parametrize("left", [b"", b'{"kind": "teacher"'])
def test_a_damaged_manifest_is_refused(tmp_path, left):
    store = Store(tmp_path)
    result = store.publish(TEACHER, gathered(store, TEACHER), 0.0)
    result.path("manifest.json").write_bytes(left)
    with pytest.raises(CorruptFileError, match=r"manifest\.json"):
        store.result(TEACHER.key).tensors("model.safetensors")
