"""A sweep that is interrupted while it trains, and the same command again."""

import signal
import subprocess
from pathlib import Path

import psutil
from commands import PATIENCE, TINY, command, manifests, own_environment, run, settings, wait_for

# steps enough to be still training when the interrupt has worked its way down
LONG = settings(teacher__steps=4000, checkpoint__steps=100, checkpoint__keep=1000)
SHORT_STUDENTS = settings(distill__intervals="[2]", sampling__steps=2)


def start(folder: Path) -> subprocess.Popen[str]:
    """The command in a process of its own; a background job's SIGINT is ignored, so that is undone first."""
    return subprocess.Popen(
        command("train", "x.yaml", *LONG), cwd=folder, env=own_environment(), text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip


def checkpoints(folder: Path) -> dict[str, int]:
    """When each checkpoint of the unfinished teacher was written."""
    return {p.name: p.stat().st_mtime_ns for p in (folder / "runs").glob("work/*/checkpoints/step-*")}


def stop(folder: Path, number: signal.Signals) -> None:
    """Start, interrupt in the middle of training, and look at what is left."""
    driver = start(folder)
    wait_for("work/*/checkpoints/step-*.json", folder / "runs", driver)
    below = psutil.Process(driver.pid).children(recursive=True)
    driver.send_signal(number)
    said, errors = driver.communicate(timeout=PATIENCE)
    assert driver.returncode == 130, said + errors
    assert "interrupted" in said
    _, alive = psutil.wait_procs(below, timeout=30)
    assert alive == []
    assert manifests(folder / "runs") == {}


def test_an_interrupted_run_stops_cleanly_and_the_same_command_continues_it(tmp_path):
    (tmp_path / "x.yaml").write_text(TINY)
    stop(tmp_path, signal.SIGINT)
    before = checkpoints(tmp_path)
    last = max(int(name.removeprefix("step-").split(".")[0]) for name in before)
    again = start(tmp_path)
    wait_for(f"work/*/checkpoints/step-{last + 100:08d}.json", tmp_path / "runs", again)
    after = checkpoints(tmp_path)
    assert before.items() <= after.items()  # it went on from there and wrote none of the earlier ones anew
    said, errors = again.communicate(timeout=PATIENCE)
    assert again.returncode == 0, said + errors
    assert len(manifests(tmp_path / "runs")) == 1


def test_termination_stops_a_run_as_cleanly_as_an_interrupt(tmp_path):
    (tmp_path / "x.yaml").write_text(TINY)
    stop(tmp_path, signal.SIGTERM)


def test_train_and_distill_share_the_teacher(tmp_path):
    (tmp_path / "x.yaml").write_text(TINY)
    assert run(tmp_path, "train", "x.yaml", *SHORT_STUDENTS).returncode == 0
    teacher = manifests(tmp_path / "runs")
    assert len(teacher) == 1
    assert run(tmp_path, "distill", "x.yaml", *SHORT_STUDENTS).returncode == 0
    both = manifests(tmp_path / "runs")
    assert len(both) == 2
    assert teacher.items() <= both.items()
    drawn = run(tmp_path, "sample", "x.yaml", *("--count", 3, "--steps", 2, "--out", "x.npz"))
    assert drawn.returncode == 2  # the file itself asks for other intervals, which are not trained
    assert "not trained yet" in drawn.stderr
