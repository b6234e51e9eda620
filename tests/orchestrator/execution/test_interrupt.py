"""A sweep that is interrupted while it trains, and the same command again."""

import io
import json
import shlex
import shutil
import signal
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from unittest import mock

import fabricated
import psutil
import pytest
from commands import (
    PATIENCE,
    SHARED,
    TINY,
    command,
    manifests,
    own_environment,
    run,
    run_here,
    settings,
    wait_for,
)
from rich.console import Console

from orchestrator import status
from orchestrator.console import conclusion
from orchestrator.host import invocation, printed
from orchestrator.sweeps.records import NOT_BEGUN, Records
from orchestrator.sweeps.status import Status

# steps enough to be still training when the interrupt has worked its way down
LONG = settings(
    teacher__steps=1500,
    checkpoint__steps=50,
    checkpoint__keep=1000,
    tracking__on_end="echo {name} {status} >> ended",
)
LONG_TEACHER = TINY.replace("teacher: {steps: 20,", "teacher: {steps: 1500,")
OF_THREE = """\
sweep: {space: {seed: {grid: [0, 1, 2]}}, max_concurrent_trials: 1}
"""
SHORT_STUDENTS = settings(distill__intervals="[2]", sampling__steps=2)


def start(folder: Path, name: str = "train") -> subprocess.Popen[str]:
    """The command in a process of its own; a background job's SIGINT is ignored, so that is undone
    first."""
    return subprocess.Popen(
        command(name, "x.yaml", *LONG), cwd=folder, env=own_environment(), text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip


def checkpoints(folder: Path) -> dict[str, int]:
    """When each checkpoint of the unfinished teacher was written."""
    return {
        p.name: p.stat().st_mtime_ns for p in (folder / "runs").glob("work/*/checkpoints/step-*")
    }


def stop(folder: Path, number: signal.Signals, name: str = "train") -> str:
    """Start, interrupt in the middle of training, and look at what is left; returns what was
    said."""
    driver = start(folder, name)
    wait_for("work/*/checkpoints/step-*.json", folder / "runs", driver)
    below = psutil.Process(driver.pid).children(recursive=True)
    driver.send_signal(number)
    said, errors = driver.communicate(timeout=PATIENCE)
    assert driver.returncode == 130, said + errors
    assert "interrupted" in said
    assert (folder / "ended").read_text() == "tiny interrupted\n"
    _, alive = psutil.wait_procs(below, timeout=30)
    assert alive == []
    done = [json.loads(manifest)["kind"] for manifest in manifests(folder / "runs").values()]
    assert done == (["reference"] * 2 if name == "sweep" else [])  # what measures comes first
    again = shlex.join(command(name, "x.yaml", *LONG))
    assert said.splitlines()[-1].endswith(
        f"stages are kept, 1 more up to a checkpoint; the same command resumes: {again}"
    )
    return said


@pytest.fixture(scope="module")
def continued(tmp_path_factory: pytest.TempPathFactory, running_ray: dict[str, str]) -> Path:
    """Where a run was interrupted, and continued to its end by the same command: on the Ray of all,
    as what is left of the first is seen by its own Ray alone."""
    folder = tmp_path_factory.mktemp("continued")
    (folder / "x.yaml").write_text(LONG_TEACHER)
    stop(folder, signal.SIGINT)
    before = checkpoints(folder)
    last = max(int(name.removeprefix("step-").split(".")[0]) for name in before)
    with mock.patch.dict(SHARED, running_ray):
        again = start(folder)
    wait_for(f"work/*/checkpoints/step-{last + 100:08d}.json", folder / "runs", again)
    after = checkpoints(folder)
    # it went on from there and wrote none of the earlier ones anew
    assert before.items() <= after.items()
    said, errors = again.communicate(timeout=PATIENCE)
    assert again.returncode == 0, said + errors
    assert (folder / "ended").read_text() == "tiny interrupted\ntiny done\n"
    return folder


def test_an_interrupted_run_stops_cleanly_and_the_same_command_continues_it(continued):
    (teacher,) = manifests(continued / "runs").values()
    assert json.loads(teacher)["kind"] == "teacher"


@pytest.mark.system
def test_termination_stops_a_run_as_cleanly_as_an_interrupt(tmp_path):
    (tmp_path / "x.yaml").write_text(TINY + OF_THREE)
    said = stop(tmp_path, signal.SIGTERM, "sweep")
    (file,) = tmp_path.glob("runs/sweeps/tiny/*/trials.json")
    assert Counter(e["status"] for e in json.loads(file.read_text())) == {
        "interrupted": 1,
        Status.NOT_STARTED: 2,
    }
    assert f"2 trials not started: {NOT_BEGUN}" in said and said.splitlines()[-1].startswith(
        "2 of "
    )


@pytest.mark.usefixtures("on_shared_ray")
def test_train_and_distill_share_the_teacher(continued, tmp_path):
    folder = shutil.copytree(continued, tmp_path / "own")
    teacher = manifests(folder / "runs")
    assert len(teacher) == 1
    assert run(folder, "distill", "x.yaml", *SHORT_STUDENTS).returncode == 0
    both = manifests(folder / "runs")
    assert len(both) == 2
    assert teacher.items() <= both.items()
    arguments = ("--model", "student", "--steps", 2, "--out", "x.npz")
    drawn = run_here(folder, "sample", "x.yaml", *arguments)
    assert drawn.returncode == 2  # the file itself asks for other intervals, which are not trained
    assert "not trained yet" in drawn.stderr


@pytest.fixture
def records(tmp_path) -> Records:
    """Of three trials the first is done, and the store has what it needs alone."""
    records = fabricated.sweep(tmp_path / "runs")
    for stage in records.plan.stages():
        if stage not in records.plan.trials[0].stages():
            records.store.remove(stage.key)
    found = Records(records.plan, records.store)
    found.read_endings()
    return found


def test_of_the_open_trials_those_that_had_begun_are_interrupted_and_the_others_were_not_started(
    records,
):
    records.started |= {0, 1}
    records.interrupt()
    expected = [(Status.DONE, ""), (Status.INTERRUPTED, ""), (Status.NOT_STARTED, NOT_BEGUN)]
    assert [(e.status, e.error) for e in records.endings] == expected
    records.save()
    again = Records(records.plan, records.store)
    again.open()
    assert [(e.status, e.error) for e in again.endings] == [
        ("done", ""),
        ("waiting", ""),
        ("waiting", ""),
    ]


def test_a_sweep_that_was_interrupted_before_any_trial_began_is_not_over(records, capsys):
    records.interrupt()
    records.save()
    assert {e.status for e in records.endings} == {"done", Status.NOT_STARTED}
    assert status.main([str(records.folder)]) == 0
    assert "1 of 3 trials  interrupted" in capsys.readouterr().out
    records.update_all(
        lambda _, e: replace(e, error="sweep.max_minutes: 1 minutes are used up") if e.error else e
    )
    records.save()
    assert status.main([str(records.folder)]) == 0
    assert "1 of 3 trials  done" in capsys.readouterr().out  # a budget is another reason


def test_mlflow_is_told_of_neither_and_of_both_when_they_are_done(records, tmp_path):
    records.started.add(1)
    records.interrupt()
    fabricated.publish(records, "KILLED")
    client = fabricated.client_of(records)
    (experiment,) = [e for e in client.search_experiments() if e.name == "fabricated"]

    def published() -> set[str]:
        runs = client.search_runs([experiment.experiment_id], "tags.kind = 'trial'")
        return {run.data.tags["trial"] for run in runs}

    assert published() == {"0"}
    again = fabricated.sweep(tmp_path / "runs")
    again.open()
    fabricated.publish(again)
    assert published() == {"0", "1", "2"}


def test_the_end_says_how_much_is_kept_and_by_which_command_it_goes_on(records):
    console = Console(file=io.StringIO(), width=200)
    typed = invocation.typed("sweep", ["my file.yaml", "--set", "teacher.steps=3"])
    conclusion.print_resume(records, console, typed)
    total, kept = len(list(records.plan.stages())), len(records.plan.trials[0].stages())
    assert console.file.getvalue() == (
        f"{kept} of {total} stages are kept; the same command resumes: "
        f"{printed.quoted(Path(sys.executable))} -m orchestrator.sweep 'my file.yaml' --set teacher.steps=3\n"
    )


def test_a_command_line_is_repeated_as_it_was_typed(monkeypatch):
    monkeypatch.setattr(sys, "orig_argv", ["python3.11", "-m", "orchestrator.sweep", "a b.yaml"])
    assert invocation.typed("sweep", None) == "python3.11 -m orchestrator.sweep 'a b.yaml'"
