"""A sweep that is interrupted while it trains, and the same command again."""

import signal
import subprocess
import time
from pathlib import Path

import psutil
import pytest
from commands import PATIENCE, TINY, command, manifests, own_environment, run, settings

LONG = settings(teacher__steps=4000, checkpoint__steps=50, checkpoint__keep=1000)  # minutes: time to be interrupted
SHORT_STUDENTS = settings(distill__intervals="[2]", sampling__steps=2)


def wait_for(pattern: str, folder: Path, driver: subprocess.Popen[str]) -> Path:
    """The first file below `folder` that matches, once it is there."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline and driver.poll() is None:
        if found := next(folder.glob(pattern), None):
            return found
        time.sleep(0.2)
    raise AssertionError(f"no {pattern}: {driver.communicate(timeout=5)}")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_stops_cleanly_and_the_same_command_continues_it(number, tmp_path):
    (tmp_path / "x.yaml").write_text(TINY)
    arguments = ["x.yaml", *LONG]
    driver = subprocess.Popen(
        command("train", *arguments), cwd=tmp_path, text=True, env=own_environment(),
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    wait_for("work/*/checkpoints/step-*.json", tmp_path / "runs", driver)
    below = psutil.Process(driver.pid).children(recursive=True)
    driver.send_signal(number)
    said, _ = driver.communicate(timeout=PATIENCE)
    assert driver.returncode == 130
    assert "interrupted" in said
    _, alive = psutil.wait_procs(below, timeout=30)
    assert alive == []
    assert manifests(tmp_path / "runs") == {}
    before = {p.name: p.stat().st_mtime_ns for p in (tmp_path / "runs").glob("work/*/checkpoints/step-*")}
    last = max(int(name.removeprefix("step-").split(".")[0]) for name in before)
    # the rest is long: let it continue only until it has passed where it was, and stop it again
    again = subprocess.Popen(
        command("train", *arguments), cwd=tmp_path, env=own_environment(), stdout=subprocess.PIPE, text=True
    )
    wait_for(f"work/*/checkpoints/step-{last + 50:08d}.json", tmp_path / "runs", again)
    again.send_signal(number)
    again.communicate(timeout=PATIENCE)
    assert again.returncode == 130
    after = {p.name: p.stat().st_mtime_ns for p in (tmp_path / "runs").glob("work/*/checkpoints/step-*")}
    assert before.items() <= after.items()  # it went on from there and wrote none of the earlier ones anew


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
