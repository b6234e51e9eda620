import json
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from orchestrator.plan.plan import Plan, Trial, alike, make
from orchestrator.reports.aggregates import Results
from orchestrator.settings.loading import parse
from orchestrator.store import layout
from orchestrator.store.store import Store
from orchestrator.sweeps.records import Records
from orchestrator.sweeps.status import Status


def plan() -> Plan:
    """Two trials of one teacher that differ in what only students use: they have one key."""
    config = parse(
        {
            "name": "records",
            "data": {"name": "digits"},
            "path": {"kind": "kac"},
            "sampling": {"model": "teacher"},
            "sweep": {"space": {"distill.batch_size": {"grid": [16, 32]}}},
        }
    )
    return make(config, alike("fingerprint", "digits-cnn-v1"))


def opened(root: Path) -> Records:
    records = Records(plan(), Store(root))
    records.open()
    return records


def finish(store: Store, trial: Trial) -> None:
    assert trial.evaluation is not None
    folder = store.gather(trial.evaluation)
    (folder / "metrics.json").write_text('{"fid": 1.0, "fid_features": "digits-cnn-v1"}')
    (folder / "samples.png").write_bytes(b"")
    store.publish(trial.evaluation, folder, 0.0)


def test_trials_that_share_a_result_keep_a_run_of_their_own(tmp_path):
    records = opened(tmp_path)
    assert records.plan.trials[0].key == records.plan.trials[1].key
    finish(records.store, records.plan.trials[0])
    for index in range(2):
        records.update(index, mlflow_run_id=f"run {index}")
        records.end(index, "done")
    records.save()  # as at the end of a run: in its middle endings are written now and then
    again = opened(tmp_path)
    assert [ending.mlflow_run_id for ending in again.endings] == ["run 0", "run 1"]
    assert [ending.status for ending in again.endings] == ["done", "done"]


def test_how_a_trial_failed_is_remembered_until_it_is_run_again(tmp_path):
    opened(tmp_path).end(1, "failed", "teacher: loss is nan")
    read = Records(plan(), Store(tmp_path))
    read.read_endings()
    assert [(e.status, e.error) for e in read.endings] == [
        ("waiting", ""),
        ("failed", "teacher: loss is nan"),
    ]
    assert [(e.status, e.error) for e in opened(tmp_path).endings] == [("waiting", "")] * 2


def test_a_damaged_record_is_no_obstacle_since_the_store_knows_what_is_done(tmp_path):
    records = opened(tmp_path)
    records.save()
    finish(records.store, records.plan.trials[0])
    for damage in ("", "[", "[3]", '{"a": 1}', '[{"key": "x"}]', '[{"status": "done"}]'):
        (records.folder / "trials.json").write_text(damage)
        assert [ending.status for ending in opened(tmp_path).endings] == ["done", "done"]


@contextmanager
def impatient() -> Iterator[None]:
    """Threads take turns as often as they can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        yield
    finally:
        sys.setswitchinterval(before)


def test_a_reader_always_sees_a_plan_with_its_own_endings_while_another_thread_draws(tmp_path):
    space = {"path.damping": {"uniform": [1, 90]}}
    sweep = {"search": "optuna", "num_trials": 40, "space": space}
    config = parse(
        {"name": "records", "data": {"name": "digits"}, "path": {"kind": "kac"}, "sweep": sweep}
    )
    records = Records(make(config, alike("fingerprint", "digits-cnn-v1")), Store(tmp_path))
    records.open()
    over = threading.Event()
    faults = []
    looks = 0

    def look() -> None:
        nonlocal looks
        while not over.is_set():
            try:
                entries = records.entries()
            except ValueError as e:
                faults.append(e)
                return
            looks += 1
            assert [trial.index for trial, _ in entries] == list(range(len(entries)))
            if entries:
                records.update(len(entries) - 1, mlflow_run_id=f"run {len(entries) - 1}")

    readers = [threading.Thread(target=look) for _ in range(3)]
    with impatient():
        for reader in readers:
            reader.start()
        for index in range(40):
            assert [trial.index for trial in records.grow()] == [index]
            records.end(index, "failed", f"fault {index}")
        over.set()
        for reader in readers:
            reader.join()
    assert faults == [] and looks > 40
    assert [(e.status, e.error) for e in records.endings] == [
        ("failed", f"fault {i}") for i in range(40)
    ]
    assert all(e.mlflow_run_id in ("", f"run {i}") for i, e in enumerate(records.endings))


def test_changes_by_several_threads_are_all_kept(tmp_path):
    records = opened(tmp_path)

    def value(field: str, number: int) -> str:
        return list(Status)[number % len(Status)] if field == "status" else f"{field} {number}"

    def count(field: str) -> None:
        for number in range(2000):
            records.update(number % 2, **{field: value(field, number)})

    threads = [
        threading.Thread(target=count, args=(field,))
        for field in ("status", "error", "mlflow_run_id")
    ]
    with impatient():
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert [vars(e) for e in records.endings] == [
        {field: value(field, number) for field in ("status", "error", "mlflow_run_id")}
        for number in (1998, 1999)
    ]


def test_a_snapshot_stays_as_it_is_while_stages_finish(tmp_path):
    """A report is written while workers of this run, or another run on the store, publish results."""
    records = opened(tmp_path)
    results = Results(records)
    assert results.features == []
    trial = records.plan.trials[0]
    finish(records.store, trial)
    records.end(0, "done")
    assert {group.features for group in results.groups} == {""}
    assert results.records.endings[0].status == Status.WAITING
    assert results.records.snapshot() is results.records
    assert records.measured(trial)["fid"] == 1.0
    assert Results(records).features == ["digits-cnn-v1"]


def test_an_ending_that_comes_soon_after_a_slow_save_is_saved_later(tmp_path):
    """Nothing else may end for hours: a paused run still shows what has ended."""
    records = opened(tmp_path)
    records._saved = (time.monotonic(), 1.0)
    records.end(0, "failed", "x")
    records.save_pending()
    assert not (records.folder / layout.TRIALS).exists()
    records._saved = (time.monotonic() - 21, 1.0)
    records.save_pending()
    assert json.loads((records.folder / layout.TRIALS).read_text())[0]["status"] == "failed"
