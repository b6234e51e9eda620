import json
import time

import pytest
from forked import beside

from orchestrator import stages
from orchestrator.plan.plan import alike, make
from orchestrator.settings.loading import override, parse
from orchestrator.store import leases
from orchestrator.store.place import Place
from orchestrator.store.run_folder import RunFolder
from orchestrator.store.s3_place import S3Place
from orchestrator.store.store import Store
from orchestrator.sweeps import inventory
from orchestrator.sweeps.records import Records

PATIENCE = 120.0


def sweep(root: Place, name: str, **settings: object) -> Records:
    """A sweep of two trials with all its stages in the store; what two sweeps share is there
    once."""
    base = parse({"name": name, "data": {"name": "digits"}, "path": {"kind": "kac"}})
    space = {"space": {"sampling.steps": {"grid": [20, 4]}}}
    config = override(
        base, {"sweep": space, **{k.replace("__", "."): v for k, v in settings.items()}}
    )
    records = Records(make(config, alike("fingerprint", "digits-cnn-v1")), Store(root))
    records.open()
    for stage in records.plan.stages():
        if not records.store.done(stage.key):
            gathered = records.store.gather(stage)
            (gathered / "content").write_bytes(b"x" * 1000)
            records.store.publish(stage, gathered, 1.0)
    return records


def keys(records: Records) -> set[str]:
    return {s.key for s in records.plan.stages()}


def stored(root: Place) -> set[str]:
    return {p.name for p in (root / "stages").find("*")}


def gc(root: Place, *arguments: str) -> int:
    return stages.main(["--storage", str(root), "gc", *arguments])


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leases, "HEARTBEAT_SECONDS", 0.1)
    monkeypatch.setattr(leases, "STALE_SECONDS", 3.0)
    monkeypatch.setattr(S3Place, "poll_factor", 1)


def test_every_stage_is_listed_with_who_needs_it(root, capsys):
    one, other = sweep(root, "one"), sweep(root, "other", distill__lr=1e-4)
    found = {e.key: e for e in inventory.stored_stages(root)}
    assert found.keys() == keys(one) | keys(other)
    teacher = one.plan.trials[0].chain[0].key
    both = {f"one/{one.plan.id}", f"other/{other.plan.id}"}
    assert set(found[teacher].needed_by) == both
    assert all(found[key].needed_by == (f"one/{one.plan.id}",) for key in keys(one) - keys(other))
    assert all(entry.bytes == 1000 for entry in found.values())
    assert stages.main(["--storage", str(root), "list"]) == 0
    said = capsys.readouterr().out
    assert teacher in said
    assert f"{len(found)} stages" in said


def test_what_no_kept_sweep_needs_is_removed_and_nothing_else(root, capsys):
    one, other = sweep(root, "one"), sweep(root, "other", distill__lr=1e-4)
    assert gc(root, "--keep-sweeps", "one", "--dry-run") == 0
    assert "would remove" in capsys.readouterr().out
    assert stored(root) == keys(one) | keys(other)
    assert gc(root, "--keep-sweeps", "one") == 0
    assert stored(root) == keys(one)
    assert (root / "work").find("*") == []
    again = Records(other.plan, other.store)
    again.read_endings()
    assert {e.status for e in again.endings} == {"waiting"}  # its trials would be run again


@pytest.mark.parametrize("pattern", ["*", "o*", "one"])
def test_sweeps_are_kept_by_patterns_of_their_names(root, pattern):
    one = sweep(root, "one")
    assert gc(root, "--keep-sweeps", f"{pattern}/{one.plan.id}") == 0
    assert stored(root) == keys(one)


def test_a_sweep_to_keep_that_is_not_there_is_refused_and_nothing_removed(root, capsys):
    one = sweep(root, "one")
    assert gc(root, "--keep-sweeps", "on") == 2
    assert f"one/{one.plan.id}" in capsys.readouterr().err
    assert stored(root) == keys(one)


def test_a_folder_that_is_no_store_is_refused(root, capsys):
    assert stages.main(["--storage", str(root), "list"]) == 2
    assert "--storage" in capsys.readouterr().err


def keep_running(folder: str, name: str) -> None:
    leases.HEARTBEAT_SECONDS, S3Place.poll_factor = 0.1, 1
    with RunFolder(folder, name):
        time.sleep(PATIENCE)


def test_what_a_running_sweep_needs_is_never_removed_and_a_dead_one_needs_nothing(root, quick):
    one, other = sweep(root, "one"), sweep(root, "other", seed=1)
    name = f"{other.plan.experiment.name}/{other.plan.id}"
    process = beside(root).Process(target=keep_running, args=(str(root / "ray" / "run"), name))
    process.start()
    try:
        until = time.monotonic() + PATIENCE
        while not (root / "ray" / "run" / "sweep.json").exists():
            assert process.is_alive() and time.monotonic() < until
            time.sleep(0.05)
        assert gc(root, "--keep-sweeps", "one") == 0
        assert stored(root) == keys(one) | keys(other)
    finally:
        process.kill()
        process.join(PATIENCE)
    assert gc(root, "--keep-sweeps", "one") == 0
    assert stored(root) == keys(one)


def test_a_removed_stage_is_no_longer_one_that_a_longer_training_goes_on_from(root):
    records = sweep(root, "one", teacher__schedule="constant")
    teacher = records.plan.trials[0].chain[0]
    records.store.note_family(teacher)
    assert records.store.family(teacher) == [(teacher.steps, teacher.key)]
    records.store.remove(teacher.key)
    assert records.store.family(teacher) == []
    assert (root / "families").find("*/*") == []


@pytest.mark.parametrize(
    "content", ['{"layout": 2}', '{"layout": 0}', "{}", "[", '{"layout": "x"}']
)
def test_a_store_of_another_layout_is_refused_in_one_line(root, capsys, content):
    sweep(root, "one")
    (root / "layout.json").put(content.encode())
    assert gc(root, "--keep-sweeps", "nothing") == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert "layout" in line
    assert stored(root)


def test_sizes_and_ages_are_written_for_people():
    assert [inventory.size_text(n) for n in (0, 999, 1500, 2.5e9, 3e12)] == [
        "0 B", "999 B", "1.5 kB", "2.5 GB", "3.0 TB",
    ]  # fmt: skip
    assert [inventory.age_text(s) for s in (-1, 59, 120, 7200, 200000)] == [
        "0 s",
        "59 s",
        "2 min",
        "2 h",
        "2 d",
    ]


def test_a_manifest_is_json_that_names_its_files_and_their_checksums(root):
    records = sweep(root, "one")
    manifest = json.loads(
        (root / "stages" / records.plan.trials[0].key / "manifest.json").read_text()
    )
    assert manifest["files"]["content"]["bytes"] == 1000
    assert len(manifest["files"]["content"]["sha256"]) == 64
