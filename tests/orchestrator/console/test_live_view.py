"""The live view of a finished sweep, on a terminal and as lines."""

import io
import shutil
import time
from dataclasses import replace

import fabricated
import pytest
from rich.console import Console

from orchestrator.console.live_view import View
from orchestrator.sweeps.records import Records
from orchestrator.sweeps.status import Status
from orchestrator.work.training_log import tell

PATIENCE = 60.0
PROGRESS = {
    "step": 7, "steps": 20, "loss": 0.5, "fid": None, "images_per_second": 10.0, "seconds": 1.0, "seconds_left": 2.0,
}  # fmt: skip


@pytest.fixture
def console() -> Console:
    return Console(file=io.StringIO(), width=160)


def shown(view: View, console: Console) -> str:
    console.print(view.table())
    return console.file.getvalue()


def test_the_table_has_ends_that_are_no_results_and_the_dashboard(
    fabricated_sweep, console, monkeypatch
):
    records = fabricated_sweep
    plain = shown(View(records, console), console)
    assert "Ray dashboard" not in plain and "stopped" not in plain and "best so far" in plain
    monkeypatch.setattr(records, "state", records.state)  # it comes back as it was
    records.update(0, status=Status.STOPPED, error="its teacher's FID was 9 after 5 steps")
    monkeypatch.setattr(records, "dashboard", "http://127.0.0.1:8265")
    said = shown(View(records, console), console)
    assert (
        "stopped: its teacher's FID was 9 after 5 steps" in said and "http://127.0.0.1:8265" in said
    )


def test_lines_say_the_dashboard_once(fabricated_sweep, console, monkeypatch):
    monkeypatch.setattr(fabricated_sweep, "dashboard", "http://127.0.0.1:8265")
    with View(fabricated_sweep, console):
        pass
    assert console.file.getvalue().count("Ray dashboard: http://127.0.0.1:8265\n") == 1


@pytest.fixture
def unfinished(tmp_path) -> Records:
    """A sweep of which everything but the students, and what needs them, is finished; results lie
    in tmp_path/later."""
    records = fabricated.sweep(tmp_path / "runs")
    for stage in records.plan.stages():
        if stage.kind == "student" or (
            stage.kind == "evaluation" and stage.parents[0].kind == "student"
        ):
            shutil.move(records.store.root / "stages" / stage.key, tmp_path / "later" / stage.key)
    found = Records(records.plan, records.store)
    found.read_endings()
    return found


def test_on_a_terminal_a_finished_stage_is_said_when_it_finishes_and_not_at_the_end(
    unfinished, tmp_path
):
    console = Console(file=io.StringIO(), width=160, force_terminal=True)
    student = next(s for s in unfinished.plan.stages() if s.kind == "student")
    with View(unfinished, console):
        until = time.monotonic() + PATIENCE
        while "student 2" not in console.file.getvalue():  # in the table
            assert time.monotonic() < until
            time.sleep(0.05)
        shutil.move(
            tmp_path / "later" / student.key, unfinished.store.root / "stages" / student.key
        )
        while "student 2: done in 30 s" not in console.file.getvalue():
            assert time.monotonic() < until, console.file.getvalue()
            time.sleep(0.05)
    assert console.file.getvalue().count("student 2: done in 30 s") == 1


def test_a_stage_is_shown_as_in_training_until_all_trials_that_need_it_are_over(
    unfinished, console
):
    records = unfinished
    student = next(s for s in records.plan.stages() if s.kind == "student")
    needing = [t.index for t in records.plan.trials if student in t.stages()]
    assert len(needing) == 2 and all(records.endings[i].status == "waiting" for i in needing)
    view = View(records, console)
    tell(records.store.work(student.key), PROGRESS)
    for index in needing:
        assert [line for line in view._progress_lines() if line.startswith("student 2")] == [
            "student 2: step 7 of 20, loss 0.5, 10 images/s, 0:02 left"
        ]
        records.update(index, status=Status.STOPPED)
    (line,) = view._progress_lines()
    assert line == "trials: 1 of 3 done, 2 stopped"
    said = shown(view, console)
    assert "stopped at step 7 of 20" in said and "images/s" not in said


def test_an_interrupted_stage_is_as_far_as_it_came_for_who_looks_later(unfinished, console):
    records = unfinished
    student = next(s for s in records.plan.stages() if s.kind == "student")
    tell(records.store.work(student.key), PROGRESS)
    records.update_all(
        lambda _, e: replace(e, status="interrupted") if e.status == "waiting" else e
    )
    assert "interrupted at step 7 of 20" in shown(View(records, console, ours=False), console)


def test_an_error_that_looks_like_markup_is_shown_as_it_is(fabricated_sweep, console, monkeypatch):
    monkeypatch.setattr(
        fabricated_sweep, "state", fabricated_sweep.state
    )  # it comes back as it was
    fabricated_sweep.update(0, status="failed", error="got [/tmp], expected [bold]")
    assert "got [/tmp], expected [bold]" in shown(View(fabricated_sweep, console), console)
