"""A tracking server that is killed in the middle of a sweep and is back half a minute later."""

import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from commands import PATIENCE, free_port, mlflow_server
from sweeps import EXPERIMENT, finish, logged, mlflow_runs, results, rows, start

from kaccore.data import load
from orchestrator.plan import plan
from orchestrator.settings import loading
from orchestrator.store.leases import LeaseWatch
from orchestrator.store.store import Store

AWAY = 30.0  # seconds


def until(happened: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not happened():
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(0.5)


def times(store: Store, key: str) -> tuple[int, int]:
    """When the finished stage `key` was begun and ended, in MLflow's milliseconds."""
    manifest = store.result(key).manifest
    end = int(manifest["finished"] * 1000)
    return end - int(manifest["seconds"] * 1000), end


def kinds(uri: str) -> list[str]:
    return [r.data.tags["kind"] for r in mlflow_runs(uri)]


def test_what_a_killed_server_missed_is_published_when_it_is_back_once_and_with_the_right_times(
    undisturbed, tmp_path: Path
):
    """Over a minute: the server is away for half of one, and is started twice."""
    (tmp_path / "x.yaml").write_text(EXPERIMENT)
    store, port = Store(tmp_path / "runs"), free_port()
    planned = plan.make(
        loading.load(tmp_path / "x.yaml"),
        plan.alike(load("digits").fingerprint, "digits-cnn-v1", "digits-resnet-v1"),
    )
    last = LeaseWatch(
        store.work(planned.trials[-1].key)
    ).try_take()  # the sweep waits for this stage, as for another's
    assert last is not None
    with ExitStack() as running:
        with last:
            with mlflow_server(tmp_path, port) as uri:
                process = start(tmp_path, "--set", f"tracking.uri={uri}")
                until(lambda: kinds(uri) == ["sweep"] or process.poll() is not None)
            time.sleep(AWAY)
            until(lambda: all(store.done(s.key) for s in planned.stages(("teacher", "student"))))
            assert process.poll() is None
            running.enter_context(mlflow_server(tmp_path, port))
            until(
                lambda: kinds(uri).count("student") == 2
            )  # of its own accord: the sweep is still waiting
        finish(process)
        assert results(store.root) == results(undisturbed.storage)
        assert {row["status"] for row in rows(store.root)} == {"done"}
        assert logged(store.root, uri) == logged(undisturbed.storage)
        for run in mlflow_runs(uri):
            for key in {"stage_key", "trial_key"} & run.data.tags.keys():
                assert (run.info.start_time, run.info.end_time) == times(store, run.data.tags[key])
