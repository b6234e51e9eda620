"""Publishing to a real SQLite store of MLflow: once, whoever does it and whatever was left
half-way."""

import shutil
from collections import Counter
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.entities import Run
from test_records import finish, opened

from orchestrator.store import leases
from orchestrator.sweeps.records import Records
from orchestrator.tracking.publisher import Publisher


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty database: making one takes MLflow some seconds."""
    records = opened(tmp_path_factory.mktemp("mlflow"))
    publisher = Publisher(records)
    publisher.finish("FINISHED")
    assert publisher.problem == ""
    return records.store.root


@pytest.fixture
def records(database: Path, tmp_path: Path) -> Records:
    """A finished trial, and a database in which the sweep has a run and nothing else."""
    root = shutil.copytree(database, tmp_path / "runs")
    records = opened(root)
    for trial in records.plan.trials:
        finish(records.store, trial)
    return opened(root)


def runs(records: Records) -> list[Run]:
    client = MlflowClient(f"sqlite:///{records.store.root / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("records")
    assert experiment is not None
    return list(client.search_runs([experiment.experiment_id]))


def kinds(records: Records) -> Counter[tuple[str, str]]:
    return Counter((r.data.tags["kind"], r.info.status) for r in runs(records))


def publish(records: Records) -> None:
    publisher = Publisher(records)
    publisher.finish("FINISHED")
    assert publisher.problem == ""


def test_publishing_twice_logs_once(records):
    publish(records)
    publish(opened(records.store.root))
    assert kinds(records) == {("sweep", "FINISHED"): 1, ("trial", "FINISHED"): 2}


def test_two_processes_that_publish_in_turn_log_every_run_once(records):
    one, other = Publisher(records), Publisher(opened(records.store.root))
    other.attempt()  # it has looked, and the first one logs before it looks again
    assert one.attempt()
    assert other.attempt()
    assert one.attempt()
    assert kinds(records) == {("sweep", "RUNNING"): 1, ("trial", "FINISHED"): 2}


def test_what_was_left_half_way_is_made_anew(records):
    publish(records)
    client = MlflowClient(f"sqlite:///{records.store.root / 'mlflow.db'}")
    for run in runs(records):
        if run.data.tags["kind"] == "trial":
            client.update_run(run.info.run_id, status="RUNNING")
    parent = next(r for r in runs(records) if r.data.tags["kind"] == "sweep")
    tags = {"kind": "teacher", "stage_key": "0", "mlflow.parentRunId": parent.info.run_id}
    client.create_run(parent.info.experiment_id, tags=tags)
    publish(records)
    assert kinds(records) == {("sweep", "FINISHED"): 1, ("trial", "FINISHED"): 2}


def test_who_finds_another_publishing_waits_for_his_turn(records):
    publisher = Publisher(records)
    lease = leases.LeaseWatch(publisher.lease_folder).try_take()
    assert lease is not None
    with lease:
        assert not publisher.attempt()
        assert kinds(records) == {("sweep", "FINISHED"): 1}
    assert publisher.attempt()
    assert kinds(records) == {("sweep", "RUNNING"): 1, ("trial", "FINISHED"): 2}
