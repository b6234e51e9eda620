"""Warnings of workers and tasks: kept in the store, and seen by whoever watches, reads or asks."""

import errno
import io
import json
import subprocess
import sys
import warnings
from dataclasses import replace
from pathlib import Path

import fabricated
import numpy as np
import pytest
from PIL import Image
from rich.console import Console
from stages import any_stage, data_block

from kaccore.data import decoding
from orchestrator import report, stages, status
from orchestrator.console import conclusion
from orchestrator.console.live_view import View
from orchestrator.plan import data as dataset_info
from orchestrator.reports.page import page
from orchestrator.store import notices
from orchestrator.store.folder import Folder
from orchestrator.store.store import Store
from orchestrator.sweeps.records import Ending, Records
from orchestrator.work.training_log import reporting

TEACHER = any_stage("teacher", {"seed": 0}, label="teacher")
STUDENT = any_stage("student", {"intervals": 4}, (TEACHER,), "student 4")


def texts(root, *stages):
    return [notice.text for notice in notices.about(root, stages or (TEACHER, STUDENT))]


@pytest.fixture
def records(tmp_path) -> Records:
    return fabricated.sweep(tmp_path / "runs")


@pytest.fixture
def console() -> Console:
    return Console(file=io.StringIO(), width=160)


def test_a_warning_is_kept_once_and_says_what_it_is_about_where_and_when(root, capsys):
    store = Store(root)
    for _ in range(2):
        store.warn(TEACHER, "the disk\nis old")
    store.warn(STUDENT, "another")
    one, other = notices.about(root, [TEACHER, STUDENT])
    assert (one.key, one.label, one.text) == (TEACHER.key, "teacher", "the disk is old")
    assert one.host and 1.7e9 < one.time <= other.time
    assert texts(root, STUDENT) == ["another"]
    assert capsys.readouterr().err.count("warning: teacher: the disk is old\n") == 2


def test_a_warning_outlives_the_work_and_goes_with_the_result(root):
    store = Store(root)
    store.warn(TEACHER, "it was slow")
    folder = store.gather(TEACHER)
    (folder / "x.json").write_text("1")
    store.publish(TEACHER, folder, 1.0)
    assert texts(root) == ["it was slow"]
    store.remove(TEACHER.key)
    assert texts(root) == []
    assert (root / "notices").find("*/*") == []


def test_a_warning_that_cannot_be_written_is_no_failure(tmp_path, capsys):
    (tmp_path / "notices").write_text("a file in the way")
    Store(tmp_path).warn(TEACHER, "it was slow")
    assert "it was slow" in capsys.readouterr().err


def test_a_full_disk_leaves_no_half_of_a_warning_and_it_is_kept_when_there_is_room(
    tmp_path, monkeypatch
):
    def full(self: Folder, data: bytes) -> int:
        Path.write_bytes(self, data[:3])
        raise OSError(errno.ENOSPC, "No space left on device")

    store = Store(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(Folder, "write_bytes", full)
        store.warn(TEACHER, "it was slow")
    assert list((tmp_path / "notices").rglob("*.*")) == []
    store.warn(TEACHER, "it was slow")
    assert texts(store.root) == ["it was slow"]


@pytest.mark.parametrize("content", [b"", b"[", b"[]", b'{"text": "x"}'])
def test_a_damaged_warning_warns_of_nothing(tmp_path, content):
    store = Store(tmp_path)
    store.warn(TEACHER, "one")
    store.warn(TEACHER, "two")
    file = next(f for f in (tmp_path / "notices").glob("*/*.json") if b"one" in f.read_bytes())
    file.write_bytes(content)
    assert texts(store.root) == ["two"]


def warn_of(name: str) -> None:
    """Warn as a module of that name would."""
    registry = {}
    file = f"{Path(notices.__file__).parents[2]}/{name.replace('.', '/')}.py"
    warnings.warn_explicit("too few images", UserWarning, file, 1, module=name, registry=registry)


def test_python_warnings_of_this_project_are_kept_while_a_stage_is_worked_on_and_others_are_not(
    tmp_path,
):
    store = Store(tmp_path)
    with warnings.catch_warnings(record=True) as seen:
        for stage in (
            TEACHER,
            STUDENT,
        ):  # what was given for one stage is given for the next one too
            with reporting(store, stage):
                warn_of("kaccore.metrics.fid")
        with reporting(store, TEACHER):
            warnings.warn_explicit(
                "deprecated", UserWarning, "/usr/lib/other.py", 1, module="other"
            )
        warn_of("kaccore.metrics.fid")
    assert [(n.key, n.text) for n in notices.about(store.root, [TEACHER, STUDENT])] == [
        (TEACHER.key, "too few images"), (STUDENT.key, "too few images"),
    ]  # fmt: skip
    assert len(seen) >= 3  # Python shows them as ever


def test_python_warnings_of_the_core_are_kept_by_a_process_that_has_given_them_before(tmp_path):
    """In a process of its own, whose filters are Python's and not pytest's."""
    code = f"""
import warnings
import sys; sys.path.insert(0, {str(Path(__file__).parents[1])!r})
from stages import any_stage
from orchestrator.store.folder import Folder
from orchestrator.store import notices
import kaccore.tensors
exec(compile("def f(): warnings.warn('odd')", kaccore.tensors.__file__, "exec"), kaccore.tensors.__dict__)
kaccore.tensors.warnings = warnings
for label in ("a", "b"):
    with notices.captured(Folder({str(tmp_path)!r}), any_stage("teacher", {{"seed": label}}, label=label)):
        kaccore.tensors.f()
        kaccore.tensors.f()
"""
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert said.returncode == 0, said.stderr
    assert said.stderr.count("UserWarning: odd") == 2
    kept = sorted(json.loads(f.read_text())["label"] for f in tmp_path.glob("notices/*/*.json"))
    assert kept == ["a", "b"]


def test_a_worker_that_decodes_images_says_so_as_the_progress_of_its_stage(
    tmp_path, monkeypatch, records, console
):
    monkeypatch.setattr(decoding, "REPORT_SECONDS", -1.0)
    folder = tmp_path / "images" / "train"
    folder.mkdir(parents=True)
    for i in range(4):
        Image.fromarray(np.full((8, 8, 3), i, np.uint8)).save(folder / f"{i}.png")
    teacher = records.plan.trials[0].chain[0]
    (records.store.root / "stages" / teacher.key).rename(tmp_path / "gone")
    view = View(records, console)

    settings = data_block(name="folder", root=str(tmp_path / "images"), size=8)
    with reporting(records.store, teacher):
        dataset_info.images(settings)
    progress = records.store.progress(teacher.key)
    assert progress is not None and "4 of 4 images decoded" in progress["doing"]
    records.update_all(lambda _, ending: Ending())
    assert any(line.startswith("teacher: folder: 4 of 4") for line in view._progress_lines())
    console.print(view.table())
    assert "4 of 4 images decoded" in console.file.getvalue()


def test_each_new_warning_is_a_line_of_the_log_and_the_last_few_stand_in_the_table(
    records, console
):
    stage = records.plan.trials[0].chain[0]
    records.store.warn(stage, "from an earlier run")
    with View(records, console) as view:
        for number in range(5):
            records.store.warn(stage, f"number {number} [bold]")
    said = console.file.getvalue()
    for number in range(5):
        assert said.count(f"warning: teacher: number {number} [bold]\n") == 1
    assert "earlier" not in said
    console.print(view.table())
    table = console.file.getvalue().removeprefix(said)
    assert "6 warnings" in table and "number 1" not in table
    assert all(f"number {number} [bold]" in table for number in (2, 3, 4))


def test_report_status_and_the_end_of_a_run_list_the_warnings(records, console, capsys):
    stage = records.plan.trials[0].chain[0]
    records.store.warn(stage, "a checkpoint <was> damaged")
    conclusion.print_conclusion(records, console)
    assert "1 warning:\n  teacher: a checkpoint <was> damaged\n" in console.file.getvalue()
    assert "<h2>Warnings</h2>" in page(records)
    assert "teacher: a checkpoint &lt;was&gt; damaged</li>" in page(records)
    capsys.readouterr()
    assert status.main([str(records.folder), "--storage", str(records.store.root)]) == 0
    assert "1 warning:\n  teacher: a checkpoint <was> damaged\n" in capsys.readouterr().out
    assert report.main([str(records.folder)]) == 0
    assert "a checkpoint &lt;was&gt; damaged" in (records.folder / "report.html").read_text()


def test_what_was_warned_of_when_the_data_were_read_is_listed_with_the_rest(
    records, console, capsys
):
    assert decoding.WARNING == notices.WARNING
    plan = records.plan
    info = replace(
        plan.trials[0].facts.data,
        notes=("warning: 3 damaged images skipped: a.png", "64 images enlarged"),
    )
    trials = tuple(replace(trial, facts=replace(trial.facts, data=info)) for trial in plan.trials)
    warned = Records(replace(plan, trials=trials, recorded=plan.id), records.store)
    conclusion.print_conclusion(warned, console)
    assert "1 warning:\n  digits: 3 damaged images skipped: a.png\n" in console.file.getvalue()
    assert "<li>digits: 3 damaged images skipped: a.png</li>" in page(warned)


def test_a_long_list_is_cut_and_says_how_long_it_is(tmp_path):
    found = [notices.Notice("k", "teacher", str(i), "here", float(i)) for i in range(30)]
    assert notices.lines(found, 2) == ["30 warnings, the last 2:", "  teacher: 28", "  teacher: 29"]
    assert notices.lines([]) == []


def test_a_sweep_that_went_well_has_no_such_section(records, console):
    conclusion.print_conclusion(records, console)
    assert "warning" not in console.file.getvalue()
    assert "<h2>Warnings</h2>" not in page(records)


def test_collecting_garbage_removes_the_warnings_that_no_kept_sweep_needs(records, tmp_path):
    stage = records.plan.trials[0].chain[0]
    records.store.warn(stage, "kept")
    records.store.warn(TEACHER, "of a stage of no sweep, that was never finished")
    arguments = ["--storage", str(records.store.root), "gc", "--keep-sweeps", "fabricated"]
    assert stages.main([*arguments, "--dry-run"]) == 0
    assert len(texts(records.store.root, TEACHER, stage)) == 2
    assert stages.main(arguments) == 0
    assert texts(records.store.root, TEACHER, stage) == ["kept"]
