"""A running sweep that is steered from another terminal: cancelled, paused, resumed, put in another
order, and interrupted while it is paused."""

import json
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fabricated
import psutil
import pytest
from commands import PATIENCE, TINY, command, kill_all, own_environment, run, run_here, wait_for
from in_process import train

from orchestrator.execution.steering import BY_REQUEST, Steering
from orchestrator.settings import loading
from orchestrator.store import run_requests
from orchestrator.store.folder import Folder
from orchestrator.store.run_requests import CANCEL, PAUSE, PRIORITY, RESUME, Orders, Request
from orchestrator.store.store import Store
from orchestrator.sweeps import opening
from orchestrator.sweeps.records import Records
from orchestrator.sweeps.status import Status

# no checkpoint comes by itself
LONG = TINY.replace("{steps: 20,", "{steps: 3000,").replace(
    "checkpoint: {steps: 10}", "checkpoint: {steps: 100000}"
)
SEEDS = "sweep: {space: {seed: {grid: [0, 1, 2, 3]}}, max_concurrent_trials: 1}\n"
STEPS = "sweep: {space: {sampling.steps: {grid: [4, 2]}}, max_concurrent_trials: 2}\n"


def start(cwd: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        command("sweep", "x.yaml"), cwd=cwd, env=own_environment(), text=True, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip


def ask(cwd: Path, *options: object) -> str:
    said = run_here(cwd, "status", "tiny", *options)
    assert said.returncode == 0, said.stderr
    return said.stdout


def refused(cwd: Path, *options: object) -> str:
    said = run_here(cwd, "status", "tiny", *options)
    assert said.returncode == 2 and said.stderr.count("\n") == 1, said.stdout + said.stderr
    return said.stderr


def state(cwd: Path) -> dict[str, Any]:
    return json.loads(run_here(cwd, "status", "tiny", "--json").stdout)


def until(happened: Callable[[], Any], driver: subprocess.Popen[str]) -> Any:
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline and driver.poll() is None:
        if found := happened():
            return found
        time.sleep(0.3)
    raise AssertionError(driver.communicate(timeout=5))


def teachers(cwd: Path) -> list[str]:
    """The keys of the teachers of all trials."""
    plan = opening.make_plan(loading.load(cwd / "x.yaml"), "x.yaml")
    return [trial.chain[0].key for trial in plan.trials]


def step(cwd: Path, key: str) -> int:
    """The step that the training of a stage has reached; 0 before the first one."""
    progress = Store(cwd / "runs").progress(key) or {}
    return int(progress.get("step", 0))


def checkpoint(cwd: Path, key: str) -> int:
    """The step of the last checkpoint of a stage; 0 where it has none."""
    names = sorted(cwd.glob(f"runs/work/{key}/checkpoints/step-*.json"))
    return int(names[-1].stem.removeprefix("step-")) if names else 0


def statuses(cwd: Path) -> list[str]:
    (file,) = cwd.glob("runs/sweeps/tiny/*/trials.json")
    return [ending["status"] for ending in json.loads(file.read_text())]


@pytest.fixture(scope="module")
def steered(tmp_path_factory: pytest.TempPathFactory, shared_ray: None) -> Iterator[Path]:
    """Trial 0 is cancelled while it trains, and 1 before it begins; 3 is put before 2, paused,
    resumed, paused again, and interrupted."""
    cwd = tmp_path_factory.mktemp("steered")
    (cwd / "x.yaml").write_text(LONG + SEEDS)
    keys = teachers(cwd)
    driver = start(cwd)
    try:
        wait_for(f"runs/work/{keys[0]}/progress.json", cwd, driver)
        until(lambda: step(cwd, keys[0]), driver)
        said = ask(cwd, "--cancel", 0, "--cancel", 1, "--priority", 3)
        assert "to cancel trial 0" in said and "to start trial 3 next" in said
        wait_for(f"runs/work/{keys[3]}/progress.json", cwd, driver)
        assert checkpoint(cwd, keys[0]) and not (cwd / "runs" / "work" / keys[1]).exists()
        until(lambda: step(cwd, keys[3]), driver)

        ask(cwd, "--pause")
        until(lambda: state(cwd)["state"] == "paused", driver)
        until(lambda: checkpoint(cwd, keys[3]), driver)
        paused_at = checkpoint(cwd, keys[3])
        assert "paused" in run_here(cwd, "status").stdout
        assert "  paused" in ask(cwd)
        assert "the sweep is paused already" in refused(cwd, "--pause")
        until(lambda: statuses(cwd)[0] == "cancelled", driver)
        assert "got 0, expected a trial that is not over: it is cancelled" in refused(
            cwd, "--cancel", 0
        )
        assert "got 9, expected the number of a trial, 0 to 3" in refused(cwd, "--cancel", 9)

        ask(cwd, "--resume")
        until(lambda: step(cwd, keys[3]) > paused_at, driver)
        assert "the sweep is not paused" in refused(cwd, "--resume")
        ask(cwd, "--pause")
        store = Store(cwd / "runs")
        until(  # a fast machine may have ended this training before
            lambda: checkpoint(cwd, keys[3]) > paused_at or store.done_uncached(keys[3]), driver
        )
        below = psutil.Process(driver.pid).children(recursive=True)
        driver.send_signal(signal.SIGINT)
        said, _ = driver.communicate(timeout=PATIENCE)
        assert driver.returncode == 130, said
        assert psutil.wait_procs(below, timeout=30)[1] == []
        (cwd / "said").write_text(said)
        yield cwd
    finally:
        kill_all(driver)


def test_each_trial_ends_as_it_was_asked_to(steered):
    assert statuses(steered) == ["cancelled", "cancelled", "not started", "interrupted"]
    said = (steered / "said").read_text()
    for line in (
        "trial 0 is being cancelled",
        "trial 1 is cancelled",
        "trial 3 starts next",
        "paused: training was saved",
        "resumed",
        f"trial 0 cancelled: {BY_REQUEST}",
        f"trial 1 cancelled: {BY_REQUEST}",
    ):
        assert line in said, said
    assert not list(steered.glob("runs/ray/*"))


def test_a_sweep_that_is_not_running_is_asked_nothing(steered):
    assert "--cancel: the sweep is not running" in refused(steered, "--cancel", 2)
    assert "--pause: the sweep is not running" in refused(steered, "--pause")
    nothing = run_here(steered, "status", "--pause")
    assert nothing.returncode == 2 and "takes SWEEP" in nothing.stderr


def test_the_next_run_takes_a_cancelled_trial_up_to_the_same_weights(steered, tmp_path):
    key = teachers(steered)[0]
    (trial, *_) = opening.make_plan(loading.load(steered / "x.yaml"), "x.yaml").trials
    train(trial.chain[:1], trial.config.data, tmp_path / "anew")
    again = run(steered, "sweep", "x.yaml", "--only", "seed=0")
    assert again.returncode == 0, again.stdout + again.stderr
    assert "trials 0, 1: cancelled in the run before: this run takes them up again" in again.stdout
    kept, anew = (root / "stages" / key for root in (steered / "runs", tmp_path / "anew"))
    assert (kept / "model.safetensors").read_bytes() == (anew / "model.safetensors").read_bytes()


@pytest.mark.usefixtures("shared_ray")
def test_training_that_another_trial_needs_goes_on(tmp_path):
    """The cancelled trial's worker group trains both chains."""
    (tmp_path / "x.yaml").write_text(LONG + STEPS)
    plan = opening.make_plan(loading.load(tmp_path / "x.yaml"), "x.yaml")
    other, leader = plan.trials
    assert other.chain == leader.chain[:2] and plan.leaders() == [leader]
    teacher, first, second = leader.chain
    driver = start(tmp_path)
    try:
        wait_for(f"runs/work/{teacher.key}/progress.json", tmp_path, driver)
        ask(tmp_path, "--cancel", 1)
        order = f"runs/ray/*/orders/{run_requests.stopped(second.key)}"
        orders = wait_for(order, tmp_path, driver).parent
        assert {p.name for p in orders.iterdir() if not p.name.startswith(".")} == {
            run_requests.cancelled(1),
            run_requests.stopped(second.key),
        }
        said, _ = driver.communicate(timeout=PATIENCE)
        assert driver.returncode == 0, said  # no failure
    finally:
        kill_all(driver)
    store = Store(tmp_path / "runs")
    assert statuses(tmp_path) == ["done", "cancelled"]
    assert store.done(teacher.key) and store.done(first.key) and not store.done(second.key)


@pytest.fixture
def records(tmp_path) -> Records:
    """Three trials of which none is done."""
    asked = fabricated.experiment()
    records = Records(opening.make_plan(asked, "x"), Store(tmp_path / "runs"))
    records.open()
    return records


def carried_out(
    records: Records, steering: Steering, folder: Folder, *requests: Request
) -> list[str]:
    """What is said about requests, all of which the thread has read."""
    before = len(records.said)
    for request in requests:
        run_requests.ask(folder, request)
    with steering.listening():
        deadline = time.monotonic() + PATIENCE
        while len(records.said) < before + len(requests) and time.monotonic() < deadline:
            steering.apply()
            time.sleep(0.05)
    return records.said[before:]


def test_only_training_that_no_open_trial_needs_is_stopped(records, tmp_path):
    folder = Folder(tmp_path / "runs" / "ray" / "abc")
    steering = Steering(records, folder)
    teacher, two, one = (trial.chain[-1].key for trial in records.plan.trials)
    steering.given.add(2)
    said = carried_out(records, steering, folder, Request(CANCEL, 2), Request(CANCEL, 1))
    assert said == ["trial 2 is being cancelled", "trial 1 is cancelled"]
    assert Counter(e.status for e in records.endings) == {"waiting": 2, "cancelled": 1}
    alone = {run_requests.stopped(key) for key in (two, one)}
    both = {run_requests.cancelled(index) for index in (1, 2)}
    assert Orders(folder).given() == alone | both
    records.update(0, status=Status.DONE)  # nobody needs the teacher any more
    steering.apply()
    assert Orders(folder).given() == alone | both | {run_requests.stopped(teacher)}


def test_what_cannot_be_done_any_more_is_said(records, tmp_path):
    folder = Folder(tmp_path / "runs" / "ray" / "abc")
    steering = Steering(records, folder)
    records.update(0, status=Status.DONE)
    steering.given.add(1)
    said = carried_out(
        records,
        steering,
        folder,
        Request(CANCEL, 0),
        Request(PRIORITY, 1),
        Request(PRIORITY, 2),
        Request(CANCEL, 2),
        Request(CANCEL, 2),
        Request(CANCEL, 7),
        Request("dance"),
        Request(PAUSE),
        Request(RESUME),
    )
    assert said[:5] == [
        "trial 0 is done already",
        "trial 1 has begun already",
        "trial 2 starts next",
        "trial 2 is cancelled",
        "trial 2 is cancelled already",
    ]
    assert all("does not know" in line for line in said[5:7])
    assert said[7].startswith("paused: ") and said[8] == "resumed"
    assert not steering.paused and not records.paused
