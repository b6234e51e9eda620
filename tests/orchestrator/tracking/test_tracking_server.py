"""Publishing to a real MLflow server, dead and alive, what the default sweep has left in its
store."""

import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from commands import free_port, mlflow_server, run_here
from conftest import SweepRun
from mlflow import MlflowClient
from test_printed import pasted


@pytest.fixture(scope="module")
def port() -> int:
    return free_port()


@pytest.fixture(scope="module")
def sweep(default_sweep: SweepRun, tmp_path_factory: pytest.TempPathFactory) -> SweepRun:
    """The finished sweep in a folder of its own, without what it has logged."""
    cwd = tmp_path_factory.mktemp("served")
    shutil.copytree(
        default_sweep.storage,
        cwd / "runs",
        ignore=shutil.ignore_patterns("mlflow.db", "mlartifacts"),
    )
    return SweepRun(cwd, default_sweep.arguments, default_sweep.said)


@pytest.fixture
def server(port: int, tmp_path: Path) -> Iterator[str]:
    """A server of this test's own, and its address."""
    with mlflow_server(tmp_path, port) as uri:
        yield uri


def test_a_dead_server_fails_no_sweep_and_what_is_missing_is_published_when_it_is_back(
    sweep, port, request
):
    arguments = [*sweep.arguments, "--set", f"tracking.uri=http://127.0.0.1:{port}"]
    dead = run_here(sweep.cwd, "sweep", *arguments)
    assert dead.returncode == 0, dead.stdout + dead.stderr
    none = f"http://127.0.0.1:{port}: no tracking server answers there: start it"
    warned = next(
        line for line in dead.stdout.splitlines() if line.startswith("tracking.uri: got ")
    )
    assert warned.startswith(f"tracking.uri: got {none}") and "the run continues" in warned
    assert f"MLflow could not be written: {none}" in dead.stdout
    assert "Traceback" not in dead.stdout + dead.stderr
    again = next(
        line
        for line in dead.stdout.splitlines()
        if line.startswith("publish what is missing with: ")
    )
    again = again.removeprefix("publish what is missing with: ")

    still_dead = pasted(again, sweep.cwd)
    assert still_dead.returncode == 1
    assert f"MLflow could not be written: {none}" in still_dead.stdout
    assert "Traceback" not in still_dead.stdout + still_dead.stderr

    uri = request.getfixturevalue("server")
    alive = pasted(again, sweep.cwd)
    assert alive.returncode == 0, alive.stdout + alive.stderr
    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name("nfe-sweep")
    assert experiment is not None
    found = client.search_runs([experiment.experiment_id], max_results=1000)
    assert Counter(r.data.tags["kind"] for r in found) == {
        "sweep": 1,
        "trial": 16,
        "teacher": 1,
        "student": 5,
    }
    assert {r.info.status for r in found} == {"FINISHED"}
    trial = next(r for r in found if r.data.tags["kind"] == "trial")
    assert {a.path for a in client.list_artifacts(trial.info.run_id)} >= {
        "samples.png",
        "nearest.png",
        "config.yaml",
    }
    (version,) = client.search_model_versions("name = 'nfe-sweep'")
    (parent,) = (r for r in found if r.data.tags["kind"] == "sweep")
    assert (version.tags["sweep_id"], version.run_id) == (
        parent.data.tags["sweep_id"],
        parent.info.run_id,
    )
    assert not (sweep.storage / "mlflow.db").exists()
