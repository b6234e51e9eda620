"""What MLflow is told of a sweep beside its results: what made it, on what data, what that took.
All of it is in the store, and is logged from there into any database."""

import json
import platform
import shutil
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import fabricated
import pytest
from fabricated import POINTS, SECONDS, client_of
from mlflow.entities import Run
from mlflow.types import Schema

from kaccore.data import load
from orchestrator.store.provenance import DIRTY, made_by
from orchestrator.sweeps import opening
from orchestrator.sweeps.records import NOT_BEGUN, Records
from orchestrator.sweeps.status import Status
from orchestrator.tracking.runs import NewRun

OURS = ("kind", "stage_key", "trial_key", "sweep_id", "version", "git", "mlflow.source")


def runs(records: Records, kind: str = "") -> list[Run]:
    client = client_of(records)
    experiment = client.get_experiment_by_name(records.plan.experiment.name)
    assert experiment is not None
    found = client.search_runs([experiment.experiment_id], max_results=1000)
    return [r for r in found if r.data.tags["kind"] == kind or not kind]


def content(records: Records) -> list[Any]:
    """All that is logged but the ids that MLflow makes up, and the times of the sweep's own run."""
    client, found = client_of(records), []
    for run in runs(records):
        data, times = run.data, (run.info.start_time, run.info.end_time)
        curves = {k: [(m.step, m.value, m.timestamp) for m in client.get_metric_history(run.info.run_id, k)]
                  for k in sorted(data.metrics)}  # fmt: skip
        tags = {k: v for k, v in data.tags.items() if any(part in k for part in OURS)}
        inputs = [i.to_dictionary() for i in run.inputs.dataset_inputs]
        found.append([run.info.run_name, run.info.status, tags, data.params, curves, inputs,
                      times if tags["kind"] != "sweep" else None])  # fmt: skip
    return sorted(found, key=str)


@pytest.fixture
def copied(fabricated_sweep: Records, tmp_path: Path) -> Iterator[Records]:
    """The same sweep in a store of its own, which no database knows."""
    root = shutil.copytree(
        fabricated_sweep.store.root,
        tmp_path / "runs",
        ignore=shutil.ignore_patterns("mlflow.db", "mlartifacts"),
    )
    yield opening.records_of(
        root / fabricated_sweep.folder.relative_to(fabricated_sweep.store.root)
    )


def test_every_run_says_which_versions_made_it(fabricated_sweep):
    expected = {"python_version": platform.python_version()}
    expected |= {f"{name}_version": version(name) for name in ("torch", "ray", "mlflow", "kacflow")}
    for run in runs(fabricated_sweep):
        assert expected.items() <= run.data.tags.items()


def test_every_run_says_which_commit_made_it_where_there_is_one(fabricated_sweep):
    commit = made_by().get("commit", "")
    for run in runs(fabricated_sweep):
        assert run.data.tags.get("mlflow.source.git.commit", "") == commit.removesuffix(DIRTY)
        assert ("git_dirty" in run.data.tags) == commit.endswith(DIRTY)


def test_trials_and_trainings_have_their_data_set_as_an_input(fabricated_sweep):
    data = load("digits")
    for run in runs(fabricated_sweep):
        if run.data.tags["kind"] == "sweep":
            continue
        (logged,) = run.inputs.dataset_inputs
        assert logged.dataset.name == "digits"
        assert len(logged.dataset.digest) == 36 and data.fingerprint.startswith(
            logged.dataset.digest
        )
        profile = json.loads(logged.dataset.profile)
        assert profile["fingerprint"] == data.fingerprint
        assert profile["class_names"] == [str(digit) for digit in range(10)]
        assert (profile["num_rows"], profile["shape"], profile["classes"]) == (
            1797,
            [1797, 1, 8, 8],
            10,
        )
        schema = json.loads(logged.dataset.schema)["mlflow_tensorspec"]
        (features,) = Schema.from_json(schema["features"]).inputs
        assert (features.type.name, features.shape) == ("uint8", (-1, 1, 8, 8))
        context = "evaluation" if run.data.tags["kind"] == "trial" else "training"
        assert [(tag.key, tag.value) for tag in logged.tags] == [("mlflow.data.context", context)]


def test_what_a_training_took_of_its_machine_is_logged_by_step_and_time(fabricated_sweep):
    client = client_of(fabricated_sweep)
    for run in (*runs(fabricated_sweep, "teacher"), *runs(fabricated_sweep, "student")):
        assert run.info.end_time - run.info.start_time == 1000 * SECONDS
        for name in ("cpu_percent", "memory_mb"):
            history = client.get_metric_history(run.info.run_id, f"system/{name}")
            found = [(m.step, m.value, m.timestamp - run.info.start_time) for m in history]
            assert found == [(p["step"], p[name], 1000 * p["seconds"]) for p in POINTS]


def test_the_sweeps_own_run_has_the_verdict_and_the_best_of_each_number_of_steps(fabricated_sweep):
    (run,) = runs(fabricated_sweep, "sweep")
    note = run.data.tags["mlflow.note.content"]
    assert "fid on digits-cnn-v1" in note and "1 step: student, 2.00" in note
    assert "yardstick: teacher euler, 2 steps, 1.00" in note
    assert run.data.metrics == {"best_fid_1_step": 2.0, "best_fid_2_steps": 1.0}
    (registered,) = fabricated.versions(fabricated_sweep)
    assert "; fid 2.00" in registered.description


def test_an_empty_database_gets_the_same_from_the_store_alone(fabricated_sweep, copied):
    fabricated.publish(copied)
    assert content(copied) == content(fabricated_sweep)
    assert [v.tags for v in fabricated.versions(copied)] == [
        v.tags for v in fabricated.versions(fabricated_sweep)
    ]


def test_what_an_earlier_version_stored_is_published_with_what_it_knows(copied):
    for file in (*copied.store.root.glob("stages/*/manifest.json"), copied.folder / "plan.json"):
        told = json.loads(file.read_text())
        file.write_text(json.dumps({k: v for k, v in told.items() if k not in ("made_by", "data")}))
    for file in copied.store.root.glob("stages/*/system.json"):
        file.unlink()
    fabricated.publish(copied)
    assert len(fabricated.versions(copied)) == 1
    for run in runs(copied):
        assert not {"torch_version", "mlflow.source.git.commit"} & run.data.tags.keys()
        assert not [name for name in run.data.metrics if name.startswith("system/")]
        for logged in run.inputs.dataset_inputs:
            assert json.loads(logged.dataset.profile)["shape"] == [1797, 1, 8, 8]


def test_a_sweep_that_is_not_over_registers_nothing(copied):
    copied.update(0, status="interrupted")
    fabricated.publish(copied, "FAILED")
    assert fabricated.versions(copied) == []
    copied.update(0, status=Status.NOT_STARTED, error=NOT_BEGUN)
    fabricated.publish(copied, "FAILED")
    assert fabricated.versions(copied) == []
    copied.update(
        0, status="failed", error=""
    )  # then it is over: what its other trials have found is registered
    fabricated.publish(copied, "FAILED")
    assert len(fabricated.versions(copied)) == 1


def test_a_sweep_that_goes_on_says_who_ran_it_last(copied):
    plan = copied.folder / "plan.json"
    now = json.loads(plan.read_text())
    plan.write_text(
        json.dumps({**now, "made_by": {"torch": "1.0", "commit": f"{'a' * 40}{DIRTY}"}})
    )
    fabricated.publish(copied)
    (sweep,) = runs(copied, "sweep")
    assert (sweep.data.tags["mlflow.source.git.commit"], sweep.data.tags["git_dirty"]) == (
        "a" * 40,
        "true",
    )
    plan.write_text(json.dumps({**now, "made_by": {"torch": "2.0", "commit": "b" * 40}}))
    fabricated.publish(copied)
    (sweep,) = runs(copied, "sweep")
    assert (sweep.data.tags["mlflow.source.git.commit"], sweep.data.tags["torch_version"]) == (
        "b" * 40,
        "2.0",
    )
    assert "git_dirty" not in sweep.data.tags


def test_what_is_longer_than_mlflow_has_room_for_is_cut_and_kept_whole(tmp_path):
    """PostgreSQL refuses what is longer, SQLite takes it, and MLflow's client cuts some of it
    without a word."""
    labels = [k % 10 for k in range(3000)]
    asked = fabricated.experiment(sweep={"space": {"sampling.labels": {"grid": [labels, [1]]}}})
    records = fabricated.sweep(tmp_path / "runs", asked)
    records.update(1, status="failed", error="broken: " + "x" * 9000)
    fabricated.publish(records, "FAILED")
    client = client_of(records)
    long, failed = sorted(runs(records, "trial"), key=lambda r: r.data.tags["trial"])
    whole = f"labels {'-'.join(map(str, labels))}"
    assert len(whole) > 250 and long.info.run_name == whole[:249] + "…"
    assert long.data.params["sampling.labels"] == str(labels)[:5999] + "…"
    assert long.data.tags["cut"] == "run name, parameter sampling.labels"
    kept = json.loads(Path(client.download_artifacts(long.info.run_id, "whole.json")).read_text())
    assert kept == {"run name": whole, "parameter sampling.labels": str(labels)}
    assert (len(failed.data.tags["error"]), failed.data.tags["cut"]) == (8000, "tag error")
    kept = json.loads(Path(client.download_artifacts(failed.info.run_id, "whole.json")).read_text())
    assert kept == {"tag error": records.endings[1].error}
    (version,) = fabricated.versions(records)
    assert len(version.description) == 5000 and version.description.endswith("…")
    assert all(len(run.info.run_name) <= 250 for run in runs(records))


def test_settings_beyond_a_hundred_are_logged_too(fabricated_sweep):
    client = client_of(fabricated_sweep)
    run = NewRun(client, "1", "many", {"kind": "test"})
    run.params({f"setting_{k}": k for k in range(250)})
    run.end("FINISHED", 1)
    assert client.get_run(run.id).data.params == {f"setting_{k}": str(k) for k in range(250)}
    client.delete_run(run.id)


def test_a_trials_run_names_its_data_and_their_size(fabricated_sweep):
    fingerprint = load("digits").fingerprint
    for run in runs(fabricated_sweep, "trial"):
        tags = run.data.tags
        assert (tags["data"], tags["data.size"]) == (f"digits {fingerprint[:8]}", "8")
        assert tags["fid_features"] == "digits-cnn-v1"
