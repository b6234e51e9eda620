"""What a reader of MLflow's table finds: links between runs, means over seeds, saved views; also in a
database that an earlier version has published to."""

from pathlib import Path
from typing import Any

import made_up
import pytest
from fabricated import client_of, publish
from mlflow.entities import Run

from orchestrator.fields.faults import ConfigError
from orchestrator.networks.mlflow_lookup import find_run
from orchestrator.plan.plan import Trial
from orchestrator.store.folder import Folder
from orchestrator.sweeps.records import Records
from orchestrator.tracking.hints import ui_address
from orchestrator.tracking.views import views

STUDENTS = {"kind": "endpoint", "teacher_steps": 20, "intervals": [2, 1]}
SEEDS = {"seed": [0, 1, 2], "path.damping": [4.0, 9.0]}


def by_damping(trial: Trial) -> dict[str, Any]:
    """FID = damping + seed."""
    fid = float(trial.config.value("path.damping")) + trial.config.seed
    return made_up.measured(trial) | {"fid": fid}


def runs(records: Records, kind: str) -> list[Run]:
    client = client_of(records)
    experiment = client.get_experiment_by_name(records.plan.experiment.name)
    assert experiment is not None
    query = f"tags.kind = '{kind}' and tags.sweep_id = '{records.plan.id}'"
    return list(client.search_runs([experiment.experiment_id], query, max_results=1000))


@pytest.fixture(scope="module")
def students(tmp_path_factory: pytest.TempPathFactory) -> Records:
    space = {"sampling.model": ["teacher", "student"], "sampling.steps": [1, 2]}
    root = tmp_path_factory.mktemp("students")
    records = made_up.made(root, made_up.plan(space, distill=STUDENTS))
    records.started_by = "python -m orchestrator.sweep my.yaml --set teacher.lr=0.002"
    records.open()
    records.save()
    publish(records)
    return records


def test_a_trials_run_links_to_the_runs_of_its_networks(students):
    client = client_of(students)
    for run in runs(students, "trial"):
        tags, experiment = run.data.tags, run.info.experiment_id
        teacher = client.get_run(tags["teacher_run_id"])
        assert teacher.data.tags["kind"] == "teacher"
        links = [f"(#/experiments/{experiment}/runs/{teacher.info.run_id})"]
        if run.data.params["model"] == "student":
            student = client.get_run(tags["student_run_id"])
            assert student.data.params["intervals"] == run.data.params["steps"]
            links.append(f"(#/experiments/{experiment}/runs/{student.info.run_id})")
        else:
            assert "student_run_id" not in tags
        assert all(link in tags["mlflow.note.content"] for link in links)


def test_the_source_of_a_run_is_the_command_that_made_it(students):
    for kind in ("sweep", "trial"):
        for run in runs(students, kind):
            assert run.data.tags["mlflow.source.type"] == "LOCAL"
            assert run.data.tags["mlflow.source.name"] == students.started_by


def test_a_saved_view_has_the_filter_the_order_and_the_columns(students):
    client = client_of(students)
    experiment = client.get_experiment_by_name("made")
    (view,) = views(students)
    assert experiment.tags[view.tag] == view.state()
    found = client.search_runs([experiment.experiment_id], view.query, order_by=["metrics.fid ASC"])
    assert len(found) == 4
    assert view.columns[:2] == ("metrics.`fid`", "metrics.`kid`")
    assert {"params.`model`", "params.`steps`"} <= {*view.columns}


@pytest.mark.parametrize(
    ("uri", "address"),
    [
        (None, "http://127.0.0.1:5000"),
        ("sqlite:///else.db", "http://127.0.0.1:5000"),
        ("http://tracker:5001/", "http://tracker:5001"),
        ("https://host/mlflow", "https://host/mlflow"),
    ],
)
def test_a_page_is_at_the_named_server_or_where_the_ui_serves(uri, address, tmp_path):
    plan = made_up.plan({"sampling.steps": [1]}, tracking={"uri": uri})
    records = made_up.made(tmp_path, plan)
    assert ui_address(records) == address
    (view,) = views(records)
    link = view.link(f"{address}/#/experiments/7", saved=True)
    assert (
        link
        == f"{address}/#/experiments/7/runs?workflowType=machine_learning&viewStateShareKey={plan.id}"
    )


def test_a_database_of_an_earlier_version_is_brought_up_to_date(students):
    client = client_of(students)
    trials = runs(students, "trial")
    logged = {run.info.run_id: (run.info.run_name, run.data.tags) for run in trials}
    for run in trials:
        client.update_run(run.info.run_id, name="model student, steps 1")
        for tag in ("teacher_run_id", "mlflow.note.content", "mlflow.source.name"):
            client.delete_tag(run.info.run_id, tag)
    for _ in range(2):
        publish(students)
        again = runs(students, "trial")
        assert {run.info.run_id: (run.info.run_name, run.data.tags) for run in again} == logged


def test_a_setting_that_its_runs_parameter_has_otherwise_is_told_by_a_tag(tmp_path):
    plan = made_up.plan({"sampling.steps": [1]}, evaluation={"every_samples": 300})
    records = made_up.made(tmp_path, plan)
    publish(records)
    (sweep,) = runs(records, "sweep")
    assert sweep.data.params["evaluation.every_samples"] == "300"
    again = made_up.plan({"sampling.steps": [1]}, evaluation={"every_samples": 400})
    assert again.id == plan.id
    publish(made_up.made(tmp_path, again))
    (sweep,) = runs(records, "sweep")
    assert sweep.data.params["evaluation.every_samples"] == "300"
    assert sweep.data.tags["later_settings"] == "evaluation.every_samples 400"
    publish(made_up.made(tmp_path, plan))
    (sweep,) = runs(records, "sweep")
    assert "later_settings" not in sweep.data.tags


def test_seeds_are_averaged_in_a_run_of_their_own(tmp_path):
    records = made_up.made(tmp_path, made_up.plan(SEEDS), by_damping)
    for _ in range(2):
        publish(records)
        found = {run.info.run_name: run for run in runs(records, "aggregate")}
        assert {*found} == {"damping 4, mean of 3 seeds", "damping 9, mean of 3 seeds"}
        for damping in (4, 9):
            run = found[f"damping {damping}, mean of 3 seeds"]
            assert (run.data.metrics["fid"], run.data.metrics["fid_std"]) == (damping + 1.0, 1.0)
            assert run.data.metrics["seeds"] == 3 and run.info.status == "FINISHED"
            assert run.data.params["damping"] == f"{damping}.0" and "seed" not in run.data.params
    assert len(runs(records, "trial")) == 6
    trials, means = views(records)
    assert "kind = 'trial'" in trials.query and "kind = 'aggregate'" in means.query
    assert means.columns[:3] == ("metrics.`fid`", "metrics.`fid_std`", "metrics.`seeds`")


def test_the_run_of_a_mean_is_not_taken_for_a_network(tmp_path):
    records = made_up.made(tmp_path, made_up.plan(SEEDS), by_damping)
    publish(records)
    run = next(r for r in runs(records, "aggregate") if "damping 4" in r.info.run_name)
    trials = ", ".join(
        str(t.index) for t in records.plan.trials if t.config.value("path.damping") == 4.0
    )
    with pytest.raises(ConfigError, match=f"give a run of one of the trials {trials}"):
        find_run(run.info.run_id, Folder(tmp_path), None)


def test_a_mean_follows_the_seeds_that_are_done(tmp_path):
    plan = made_up.plan(SEEDS)
    late = [trial.index for trial in plan.trials if trial.config.seed]
    publish(made_up.made(tmp_path, plan, by_damping, without=late), "KILLED")
    records = made_up.made(tmp_path, plan, by_damping, without=late[2:])
    before = {run.info.run_id for run in runs(records, "aggregate")}
    publish(records, "KILLED")
    found = {run.info.run_name: run for run in runs(records, "aggregate")}
    assert {run.info.run_id for run in found.values()} == before
    run = found["damping 4, mean of 2 of 3 seeds"]
    assert (run.data.metrics["fid"], run.data.metrics["seeds"]) == (4.5, 2)


def test_a_sweep_with_one_seed_has_no_means(students):
    assert runs(students, "aggregate") == []


def test_trials_that_are_drawn_later_rename_the_earlier_ones(tmp_path):
    space = {"path.damping": {"uniform": [2.0, 40.0]}}
    sweep = {"search": "optuna", "num_trials": 3}
    records = made_up.made(tmp_path, made_up.plan(space, sweep=sweep))
    names = []
    for _ in range(2):
        assert records.grow()
        records = made_up.made(tmp_path, records.plan)
        publish(records)
        names.append(sorted(str(run.info.run_name) for run in runs(records, "trial")))
    assert names[0] == ["4 steps, teacher"]
    assert len(names[1]) == 2 and all(name.startswith("damping ") for name in names[1])


def test_the_best_so_far_of_a_search_is_a_metric_by_trial(tmp_path):
    space = {"path.damping": {"uniform": [2.0, 40.0]}}
    plan = made_up.plan(space, sweep={"search": "random", "num_trials": 5})
    fids = [5.0, 7.0, 3.0, 4.0, 1.0]
    measure = made_up.said_by({index: {"fid": fid} for index, fid in enumerate(fids)})
    publish(made_up.made(tmp_path, plan, measure, without=[3]), "KILLED")
    records = made_up.made(tmp_path, plan, measure, without=[3])

    def history() -> list[tuple[int, float]]:
        (sweep,) = runs(records, "sweep")
        found = client_of(records).get_metric_history(sweep.info.run_id, "best_so_far")
        return sorted((metric.step, metric.value) for metric in found)

    assert history() == [(0, 5.0), (1, 5.0), (2, 3.0)]  # trial 3 is not over
    for _ in range(2):
        publish(made_up.made(tmp_path, plan, measure))
        assert history() == [(0, 5.0), (1, 5.0), (2, 3.0), (3, 3.0), (4, 1.0)]


def test_what_differs_between_sweeps_of_one_name_is_in_their_status(tmp_path, monkeypatch):
    from commands import run_here

    monkeypatch.chdir(tmp_path)
    root = Path("runs")
    made_up.made(root, made_up.plan({"sampling.steps": [1]}, name="alone"))
    for lr in (0.002, 0.001):
        made_up.made(root, made_up.plan({"sampling.steps": [1, 2]}, teacher={"lr": lr}))
    said = run_here(tmp_path, "status").stdout
    lines = [line for line in said.splitlines() if " made/" in line]
    assert len(lines) == 2 and "teacher.lr 0.001" in said and "teacher.lr 0.002" in said
    assert not [line for line in said.splitlines() if "alone/" in line and "teacher.lr" in line]
