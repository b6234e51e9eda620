"""`tracking.on_end` at the end of runs that had nothing left to do, and of such as end badly."""

import io
import json
import os
import shlex
from pathlib import Path

import fabricated
import psutil
import pytest
from commands import run_here
from rich.console import Console

from orchestrator.console import on_end
from orchestrator.console import run as console_run
from orchestrator.store.store import Store
from orchestrator.sweeps import opening
from orchestrator.sweeps.records import Records

NOTE = "printf '%s\\n' {name} {id} {status} {report} {verdict} \"$WEBHOOK\" >> "


def told(root: Path, command: str) -> Records:
    """A finished sweep with this command, in a store whose folder has a name that a shell splits."""
    asked = fabricated.experiment(tracking={"on_end": command})
    return fabricated.sweep(root / "the runs", asked)


def test_a_run_calls_it_once_when_all_is_written(tmp_path, monkeypatch):
    monkeypatch.setenv("WEBHOOK", "https://host/secret")
    note = tmp_path / "it's"
    records = told(tmp_path, NOTE + shlex.quote(str(note)) + "; cat {report} {verdict} > page")
    monkeypatch.chdir(tmp_path)
    console = Console(file=io.StringIO(), width=200)
    assert console_run.run(Records(records.plan, records.store), None, console) == 0
    folder = tmp_path / "the runs" / "sweeps" / "fabricated" / records.plan.id
    name, key, status, *paths, address = note.read_text().splitlines()
    assert (name, key, status) == ("fabricated", records.plan.id, "done")
    assert paths == [str(folder / "report.html"), str(folder / "verdict.json")]
    assert address == "https://host/secret"
    assert (tmp_path / "page").read_text().startswith("<!doctype html>")
    stored = [path for path in folder.rglob("*") if path.is_file()]
    assert stored and not any(b"host/secret" in path.read_bytes() for path in stored)
    assert "tracking.on_end" not in console.file.getvalue()
    report = run_here(tmp_path, "report", folder)
    assert report.returncode == 0, report.stderr
    assert len(note.read_text().splitlines()) == 6  # `report` runs nothing


@pytest.mark.parametrize(
    ("error", "status"),
    [(None, "done"), (KeyboardInterrupt, "interrupted"), (RuntimeError, "failed")],
)
def test_it_is_told_how_the_run_ended(tmp_path, error, status):
    records = told(tmp_path, f"echo {{status}} >> {shlex.quote(str(tmp_path / 'note'))}")
    try:
        with on_end.told_at_the_end(records, pytest.fail) as outcome:
            if error is not None:
                raise error
            outcome.status = on_end.DONE
    except BaseException as e:
        assert type(e) is error
    assert (tmp_path / "note").read_text() == f"{status}\n"


def test_a_failure_is_one_line_and_changes_nothing(tmp_path):
    records = told(tmp_path, "echo first; echo the server refuses >&2; exit 3")
    console = Console(file=io.StringIO(), width=200)
    assert console_run.run(Records(records.plan, records.store), None, console) == 0
    assert console.file.getvalue().splitlines()[-1] == (
        "tracking.on_end: ended with status 3: the server refuses; the results are not affected"
    )


def test_what_takes_too_long_is_killed_with_all_that_it_started(tmp_path):
    note = tmp_path / "pid"
    records = told(tmp_path, f"sleep 1000 & echo $! > {shlex.quote(str(note))}; wait")
    command = records.plan.experiment.tracking.on_end
    assert on_end.run(records, command, "done", seconds=1.0) == "killed after 1 s"
    sleeping = int(note.read_text())
    assert not psutil.pid_exists(sleeping) or psutil.Process(sleeping).status() == "zombie"


def test_what_it_leaves_behind_holds_nothing_up(tmp_path):
    note = tmp_path / "pid"
    records = told(tmp_path, f"sleep 1000 & echo $! > {shlex.quote(str(note))}")
    assert on_end.run(records, records.plan.experiment.tracking.on_end, "done", 600.0) == ""
    os.kill(int(note.read_text()), 9)


def test_a_dry_run_says_the_command_and_calls_it_not(tmp_path):
    note = tmp_path / "note"
    command = f"echo {{name}} > {note}"
    (tmp_path / "x.yaml").write_text(
        fabricated.experiment(tracking={"on_end": command}, storage="runs").to_yaml()
    )
    said = run_here(tmp_path, "sweep", "x.yaml", "--dry-run")
    assert said.returncode == 0, said.stderr
    assert f"at its end a run hands this to the shell: {command}" in said.stdout
    listed = json.loads(run_here(tmp_path, "sweep", "x.yaml", "--dry-run", "--json").stdout)
    assert any(command in note for note in listed["notes"])
    assert not note.exists()


def test_it_is_part_of_no_key(tmp_path):
    plain = fabricated.experiment()
    asked = fabricated.experiment(tracking={"on_end": "echo {name}"})
    plans = [opening.make_plan(each, "x") for each in (plain, asked)]
    assert plans[0].id == plans[1].id
    assert [s.key for s in plans[0].stages()] == [s.key for s in plans[1].stages()]
    assert Records(plans[1], Store(tmp_path)).folder.name == plans[0].id
