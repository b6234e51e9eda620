"""What is needed last is looked at first: the weights of features, and what trials are measured
by."""

import csv
import hashlib
import pickle
import time
from pathlib import Path
from typing import Any

import pytest
from commands import TINY, manifests, run, run_here
from made_up import made, plan

from kaccore.metrics.features import OFFICIAL
from orchestrator.cluster.nodes import report
from orchestrator.execution.searcher import Budget, PlanSearcher
from orchestrator.execution.stage_runner import Run
from orchestrator.execution.steering import Steering
from orchestrator.fields.faults import ConfigError
from orchestrator.plan.plan import Plan
from orchestrator.settings.loading import parse
from orchestrator.store.store import Store
from orchestrator.sweeps import opening
from orchestrator.sweeps.records import Records
from orchestrator.work import preflight
from orchestrator.work.preflight import Weights, to_fetch, unreachable

INCEPTION, LARGE = "inception-v3-compat", "dinov2-vit-l-14"


@pytest.fixture(autouse=True)
def nothing_at_hand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No weights on this machine, and no network to fetch them by."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    for variable in ("https_proxy", "HTTPS_PROXY"):
        monkeypatch.setenv(variable, "http://127.0.0.1:9")  # the discard port: nobody listens


def sweep(swept: dict[str, list[Any]] | None = None, **evaluation: Any) -> Plan:
    return plan(swept or {"sampling.steps": [1, 2]}, evaluation={"metrics": ["fid"], **evaluation})


def refused(planned: Plan, root: Path, dry: bool = True) -> list[str]:
    with pytest.raises(ConfigError) as raised:
        preflight.before_start(planned.trials, Store(root), "x.yaml", dry=dry)
    return [str(fault) for fault in raised.value.faults]


@pytest.mark.parametrize("features", [INCEPTION, LARGE])
def test_a_weights_file_that_is_not_there_is_named_with_its_key_and_a_remedy(features, tmp_path):
    (fault,) = refused(sweep(features=features, weights="/nope.pth"), tmp_path)
    assert fault.startswith(
        "x.yaml: evaluation.weights: got /nope.pth, which cannot be read (No such file"
    )
    assert fault.endswith(
        f"expected a file with the weights of {features}, such as {OFFICIAL[features].url}"
    )
    (tmp_path / "folder").mkdir()
    (fault,) = refused(sweep(features=features, weights=str(tmp_path / "folder")), tmp_path)
    assert "Is a directory" in fault


def test_a_file_with_another_hash_is_refused_with_what_to_do(tmp_path):
    file = tmp_path / "w.pth"
    file.write_bytes(b"something")
    found = hashlib.sha256(b"something").hexdigest()
    (fault,) = refused(sweep(features=INCEPTION, weights=str(file)), tmp_path)
    assert fault.startswith(
        f"x.yaml: evaluation.weights: the weights of {INCEPTION} '{file}' have sha256 {found}"
    )
    assert (
        "give its hash as evaluation.weights_sha256" in fault and OFFICIAL[INCEPTION].url in fault
    )
    (fault,) = refused(
        sweep(features=INCEPTION, weights=str(file), weights_sha256="0" * 64), tmp_path
    )
    assert (
        fault.startswith("x.yaml: evaluation.weights_sha256: ")
        and "correct evaluation.weights_sha256" in fault
    )
    trusted = sweep(features=INCEPTION, weights=str(file), weights_sha256=found.upper())
    assert preflight.before_start(trusted.trials, Store(tmp_path), "x.yaml") != []
    file.write_bytes(b"something else")  # the hash that was computed before is that of another file
    time.sleep(0.01)
    assert len(refused(trusted, tmp_path)) == 1


def test_the_weights_of_another_network_are_recognised(tmp_path, monkeypatch):
    file = tmp_path / "w.pth"
    file.write_bytes(b"large")
    known = OFFICIAL[LARGE].__class__(OFFICIAL[LARGE].url, hashlib.sha256(b"large").hexdigest())
    monkeypatch.setitem(OFFICIAL, LARGE, known)
    (fault,) = refused(sweep(features=INCEPTION, weights=str(file)), tmp_path)
    assert f"these are the weights of {LARGE}: give that name as evaluation.features" in fault


def test_each_swept_file_is_looked_at_once(tmp_path):
    swept = sweep(
        {"evaluation.weights": ["/a.pth", "/b.pth"], "sampling.steps": [1, 2]}, features=INCEPTION
    )
    assert [fault.split(", ")[0] for fault in refused(swept, tmp_path)] == [
        f"x.yaml: evaluation.weights: got {path}" for path in ("/a.pth", "/b.pth")
    ]


def test_official_weights_that_cannot_be_fetched_are_missed_before_the_start(tmp_path):
    planned = sweep(features=LARGE)
    needed = preflight.before_start(planned.trials, Store(tmp_path), "x.yaml", dry=True)
    assert to_fetch(needed) == [LARGE] and not (tmp_path / "torch").exists()
    (said,) = preflight.left_to_fetch(needed)
    assert said == f"the weights of {LARGE} would be fetched from {OFFICIAL[LARGE].url}"
    (fault,) = refused(planned, tmp_path, dry=False)
    assert fault.startswith(
        f"x.yaml: evaluation.weights: got null: could not download the weights of {LARGE}"
    )
    assert f"put it at {OFFICIAL[LARGE].path}, or give its path as evaluation.weights" in fault
    (fault,) = map(str, unreachable(needed, "x.yaml"))
    assert "cannot be fetched" in fault and OFFICIAL[LARGE].url in fault


def test_a_broken_file_where_fetched_weights_are_kept_is_named(tmp_path):
    path = OFFICIAL[INCEPTION].path
    path.parent.mkdir(parents=True)
    path.write_bytes(b"half a file")
    (fault,) = refused(sweep(features=INCEPTION), tmp_path)
    assert str(path) in fault and "remove it, as it is incomplete" in fault


def test_what_is_finished_needs_no_weights_and_neither_do_shipped_features_or_a_teacher_alone(
    tmp_path,
):
    missing = {"features": INCEPTION, "weights": "/nope.pth"}
    finished = made(tmp_path, sweep(**missing))
    assert preflight.before_start(finished.plan.trials, finished.store, "x.yaml") == []
    assert preflight.before_start(sweep().trials, Store(tmp_path / "new"), "x.yaml") == []
    alone = plan(goal="teacher", evaluation=missing)
    assert preflight.before_start(alone.trials, Store(tmp_path / "new"), "x.yaml") == []


def test_too_few_images_for_own_features_are_told_before_the_start(tmp_path):
    from test_features_stage import SMALL, images

    few = {"name": "folder", "root": str(images(tmp_path / "few", 19, classes=0)), "size": 8}
    planned = opening.make_plan(parse({**SMALL, "data": few}), "x.yaml")
    (fault,) = refused(planned, tmp_path)
    assert fault.startswith(
        "x.yaml: evaluation.features: got auto: features trained on the data, but folder has 19 images"
    )
    assert "expected 20 or more" in fault and "evaluation.weights" in fault


def test_a_node_says_what_it_lacks():
    assert (
        report.weights([Weights(INCEPTION, "/nope.pth", None)], fetched=False)[0][0]
        == "evaluation.weights"
    )
    for fetched in (True, False):
        ((key, message),) = report.weights([Weights(LARGE, None, None)], fetched)
        assert key == "evaluation.weights" and OFFICIAL[LARGE].url in message


@pytest.mark.parametrize(
    "command, more",
    [
        ("sweep", []),
        ("sweep", ["--dry-run"]),
        ("evaluate", []),
        pytest.param("doctor", [], marks=pytest.mark.system),  # it asks the nodes of Ray
    ],
)
def test_commands_refuse_what_they_would_miss_at_the_end(command, more, tmp_path):
    (tmp_path / "x.yaml").write_text(
        TINY.replace("metrics: [fid]", f"metrics: [fid], features: {INCEPTION}, weights: w")
    )
    said = run_here(tmp_path, command, "x.yaml", *more)
    assert said.returncode == 2, said.stdout + said.stderr
    assert f"x.yaml: evaluation.weights: got {tmp_path / 'w'}, which cannot be read" in said.stderr
    assert not (tmp_path / "runs").exists()


def proposals(records: Records, root: Path) -> PlanSearcher:
    records.open()
    run_here = Run("run", str(root), records.plan.experiment)
    run_here.folder.mkdir(parents=True)
    steering = Steering(records, run_here.folder)
    todo = list(records.plan.trials)
    return PlanSearcher(records, run_here, todo, set(), Budget(records), steering)


def test_trials_whose_reference_cannot_be_had_are_not_begun_and_the_others_are(tmp_path):
    swept = {"evaluation.features": ["digits-cnn-v1", INCEPTION], "sampling.steps": [1, 2]}
    planned = opening.make_plan(sweep(swept).experiment, "x.yaml")
    records = Records(planned, Store(tmp_path))
    search = proposals(records, tmp_path)
    assert search.suggest("first")["trial"] == 0
    lost = planned.trials[2].reference
    assert lost is not None and lost.key != planned.trials[0].reference.key
    records.fail_measured_by(lost.key, "reference: no weights")
    assert [(e.status, e.error) for e in records.endings] == [
        ("waiting", ""), ("waiting", ""), ("failed", "reference: no weights"), ("failed", "reference: no weights")
    ]  # fmt: skip
    assert search.suggest("second")["trial"] == 1 and search.suggest("third") == "FINISHED"


def test_a_sweep_that_draws_its_trials_draws_no_more_of_them(tmp_path):
    drawn = {"path.damping": {"uniform": [4.0, 40.0]}}
    records = Records(plan(drawn, sweep={"search": "optuna", "num_trials": 5}), Store(tmp_path))
    search = proposals(records, tmp_path)
    assert search.suggest("first")["trial"] == 0
    records.fail_measured_by(records.plan.trials[0].reference.key, "reference: no weights")
    assert search.suggest("second") == "FINISHED" and len(records.plan.trials) == 1


@pytest.mark.usefixtures("on_shared_ray")
def test_a_reference_that_fails_ends_the_sweep_before_anything_is_trained(tmp_path):
    other = tmp_path / "other.pth"
    other.write_bytes(
        pickle.dumps({"a": 1})
    )  # not what it is said to be, which its hash does not tell
    digest = hashlib.sha256(other.read_bytes()).hexdigest()
    weights = f"metrics: [fid], features: {INCEPTION}, weights: {other}, weights_sha256: {digest}"
    space = "sweep:\n  max_concurrent_trials: 2\n  space:\n    seed: {grid: [0, 1, 2, 3]}\n"
    (tmp_path / "x.yaml").write_text(TINY.replace("metrics: [fid]", weights) + space)
    said = run(tmp_path, "sweep", "x.yaml")
    assert said.returncode == 1, said.stdout + said.stderr
    assert manifests(tmp_path / "runs") == {}
    (table,) = (tmp_path / "runs" / "sweeps" / "tiny").glob("*/results.csv")
    rows = list(csv.DictReader(table.read_text().splitlines()))
    assert [row["status"] for row in rows] == ["failed"] * 4
    assert {row["error"][:70] for row in rows} == {rows[0]["error"][:70]}
    assert (
        rows[0]["error"].startswith("reference: ValueError: ")
        and "does not hold a state dict" in rows[0]["error"]
    )
    assert not list((tmp_path / "runs" / "work").glob("*/progress.json"))
