import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from forked import beside
from stages import any_stage

from orchestrator.execution.stage_runner import StageFailedError, run_stages
from orchestrator.plan.stage import Stage
from orchestrator.store import leases
from orchestrator.store.s3_place import S3Place
from orchestrator.store.store import Store

PATIENCE = 120.0
TEACHER = any_stage("teacher", {"seed": 0}, label="teacher")
STUDENT = any_stage("student", {"intervals": 4}, (TEACHER,), "student 4")
LAST = any_stage("student", {"intervals": 2}, (STUDENT,), "student 2")
CHAIN = (TEACHER, STUDENT, LAST)


def running(store: Store, log: Path, seconds: float = 0.0) -> Callable[[list[Stage]], None]:
    """What runs stages here: it notes each in `log` and publishes it."""

    def execute(stages: list[Stage]) -> None:
        for stage in stages:
            with log.open("a") as f:
                f.write(f"{stage.label}\n")
            time.sleep(seconds)
            folder = store.gather(stage)
            (folder / "x.json").write_text("1")
            store.publish(stage, folder, seconds)

    return execute


def run_a_part(root: str, log: str, length: int) -> None:
    store = Store(root)
    run_stages(CHAIN[:length], store, f"run-{os.getpid()}", running(store, Path(log), 0.3))
    assert all(store.done(stage.key) for stage in CHAIN[:length])


def run_and_hang(root: str) -> None:
    """Begin with the first stage, and never come to an end."""
    store = Store(root)

    def execute(stages: list[Stage]) -> None:
        (store.root / "began").put(b"")
        time.sleep(PATIENCE)

    run_stages(CHAIN, store, "hanging", execute)


def test_processes_that_need_the_same_stages_run_each_of_them_once(root, tmp_path):
    arguments = [(str(root), str(tmp_path / "log"), length) for length in (3, 3, 2)]
    processes = [beside(root).Process(target=run_a_part, args=each) for each in arguments]
    for process in processes:
        process.start()
    for process in processes:
        process.join(PATIENCE)
    assert [p.exitcode for p in processes] == [0] * len(processes)
    assert sorted((tmp_path / "log").read_text().split("\n")) == [
        "",
        "student 2",
        "student 4",
        "teacher",
    ]


def test_a_killed_process_is_relieved_in_all_its_stages_at_once(root, tmp_path, monkeypatch):
    monkeypatch.setattr(leases, "STALE_SECONDS", 1.0)  # nobody lives whom that could hit
    monkeypatch.setattr(S3Place, "poll_factor", 1)
    process = beside(root).Process(target=run_and_hang, args=(str(root),))
    process.start()
    until = time.monotonic() + PATIENCE
    while not (root / "began").exists():
        assert time.monotonic() < until
        time.sleep(0.05)
    process.kill()
    process.join(PATIENCE)
    store, calls = Store(root), []
    execute = running(store, tmp_path / "log")
    run_stages(
        CHAIN,
        store,
        "relief",
        lambda stages: (calls.append([s.label for s in stages]), execute(stages))[1],
    )
    assert calls == [["teacher", "student 4", "student 2"]]


def test_finished_stages_are_not_run_again(root, tmp_path):
    store = Store(root)
    run_stages(CHAIN[:2], store, "first", running(store, tmp_path / "log"))
    (tmp_path / "log").unlink()
    run_stages(CHAIN, store, "second", running(store, tmp_path / "log"))
    assert (tmp_path / "log").read_text() == "student 2\n"


def test_the_missing_stages_of_a_chain_are_run_together(root, tmp_path):
    store, calls = Store(root), []
    execute = running(store, tmp_path / "log")
    run_stages(
        CHAIN,
        store,
        "run",
        lambda stages: (calls.append([s.label for s in stages]), execute(stages))[1],
    )
    assert calls == [["teacher", "student 4", "student 2"]]


def test_a_passing_fault_is_tried_again_with_what_is_still_missing(root, tmp_path):
    store, calls = Store(root), []
    execute = running(store, tmp_path / "log")

    def lose_a_worker(stages: list[Stage]) -> None:
        calls.append([s.label for s in stages])
        execute(stages[:1])
        if len(calls) < 3:
            raise ConnectionResetError("a worker died")

    run_stages(CHAIN, store, "run", lose_a_worker)
    assert calls == [
        ["teacher", "student 4", "student 2"],
        ["student 4", "student 2"],
        ["student 2"],
    ]
    assert not (root / "work" / LAST.key).is_dir()


def test_a_fault_that_does_not_pass_is_given_up_with_its_cause(root):
    store, calls = Store(root), []

    def fail(stages: list[Stage]) -> None:
        calls.append(len(stages))
        raise MemoryError("out of memory")

    with pytest.raises(StageFailedError, match=r"teacher: out of memory: lower teacher.batch_size"):
        run_stages(CHAIN, store, "run", fail)
    assert calls == [3, 3, 3]
    failure = store.failure(TEACHER)
    assert failure is not None
    assert failure["final"]


def test_a_training_that_saves_progress_may_be_interrupted_any_number_of_times(root, tmp_path):
    """As on machines that are lost again and again."""
    store, attempts = Store(root), []

    def interrupted(stages: list[Stage]) -> None:
        attempts.append(stages[0])
        if len(attempts) <= 10:
            checkpoints = store.work(stages[0].key) / "checkpoints"
            checkpoints.mkdir(parents=True, exist_ok=True)
            (checkpoints / f"step-{100 * len(attempts):08d}.json").put(b"{}")
            raise RuntimeError("a node was lost")
        if len(attempts) <= 12:
            raise RuntimeError("a node was lost early")
        running(store, tmp_path / "log")(stages)

    run_stages([TEACHER], store, "run", interrupted)
    assert len(attempts) == 13 and store.done(TEACHER.key)


def test_a_final_failure_is_not_tried_again_in_the_same_run_but_in_the_next(root, tmp_path):
    store, calls = Store(root), []

    def diverge(stages: list[Stage]) -> None:
        calls.append(len(stages))
        store.write_failure(
            stages[0], {"run": "first", "final": True, "cause": "loss is nan", "traceback": ""}
        )
        raise ValueError("loss is nan")

    for _ in range(2):  # the second trial of the run that needs the same teacher
        with pytest.raises(StageFailedError, match=r"^loss is nan$"):
            run_stages(CHAIN, store, "first", diverge)
    assert calls == [3]
    run_stages(CHAIN, store, "second", running(store, tmp_path / "log"))
    assert store.done(LAST.key)


def test_who_waits_patiently_leaves_the_work_to_others_for_that_long(root, tmp_path):
    helper = beside(root).Process(target=run_a_part, args=(str(root), str(tmp_path / "log"), 3))
    helper.start()
    store = Store(root)
    run_stages(CHAIN, store, "patient", running(store, tmp_path / "mine"), patience=PATIENCE)
    helper.join(PATIENCE)
    assert helper.exitcode == 0
    assert not (tmp_path / "mine").exists()
    assert len((tmp_path / "log").read_text().splitlines()) == 3
