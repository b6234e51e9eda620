"""Own features as a stage: planned, trained, measured with, and said to be what they are."""

import csv
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from commands import TINY, manifests, run
from in_process import measure_by, run_trial, train
from PIL import Image
from rich.console import Console

from kaccore.metrics.features import OFFICIAL, own_name
from kaccore.metrics.own_features import read_facts
from orchestrator.console.dry_run import print_plan
from orchestrator.console.live_view import View
from orchestrator.fields.faults import ConfigError
from orchestrator.plan.plan import Plan, Trial
from orchestrator.reports.page import page
from orchestrator.settings.loading import override, parse
from orchestrator.store.store import Store
from orchestrator.sweeps import opening
from orchestrator.sweeps.records import Records
from orchestrator.work.evaluation import data_of
from orchestrator.work.job import FeatureWeights, Watch
from orchestrator.work.looks import look

pytestmark = pytest.mark.usefixtures("quick_measures")
ONLY = "numbers compare within this data set alone"
SMALL: dict[str, Any] = {
    "name": "own",
    "path": {"kind": "kac"},
    "model": {"channels": 8, "multipliers": [1], "patch": 4},
    "teacher": {"steps": 3, "batch_size": 8, "label_dropout": None},
    "sampling": {"model": "teacher", "steps": 2},
    "evaluation": {"samples": 32, "metrics": ["fid"], "diagnostics": []},
}


def images(root: Path, count: int, classes: int) -> Path:
    """Photographs of noise in `classes` folders, each class of another colour."""
    for k in range(count):
        kind = k % max(1, classes)
        folder = root / f"class {kind}" if classes else root
        folder.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(k).integers(0, 128, (10, 10, 3), dtype=np.uint8)
        pixels[..., kind % 3] += 100
        Image.fromarray(pixels).save(folder / f"{k}.png")
    return root


@pytest.fixture(autouse=True)
def without_inception(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One store for those that measure: a data set's own features take a second to train."""
    return tmp_path_factory.mktemp("own")


@pytest.fixture(scope="module")
def labelled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return images(tmp_path_factory.mktemp("labelled"), 60, classes=3)


@pytest.fixture(scope="module")
def unlabelled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return images(tmp_path_factory.mktemp("unlabelled"), 60, classes=0)


def planned(root: Path, space: dict[str, list[Any]] | None = None, **blocks: Any) -> Plan:
    swept = (
        {"sweep": {"space": {key: {"grid": values} for key, values in space.items()}}}
        if space
        else {}
    )
    data = {"name": "folder", "root": str(root), "size": 8}
    return opening.make_plan(parse({**SMALL, **blocks, **swept, "data": data}), "x.yaml")


def own_of(trial: Trial) -> Any:
    assert trial.reference is not None
    (own,) = trial.reference.parents
    return own


def test_own_features_are_a_stage_that_the_reference_and_through_it_the_evaluation_rest_on(
    labelled,
):
    (trial,) = planned(labelled).trials
    assert [s.kind for s in trial.stages()] == ["features", "reference", "teacher", "evaluation"]
    own, reference = own_of(trial), trial.reference
    assert own.data == reference.data == trial.chain[0].data
    assert reference.content["features"] == own_name(own.key) == f"own-{own.key[:8]}"
    assert reference in trial.evaluation.parents


def test_all_seeds_and_all_networks_share_own_features_and_other_images_have_others(
    labelled, unlabelled
):
    plan = planned(
        labelled,
        {"seed": [0, 1], "model.channels": [8, 16], "data.root": [str(labelled), str(unlabelled)]},
    )
    owners = {own_of(trial).key: trial.config.data.root for trial in plan.trials}
    assert len(plan.trials) == 8 and sorted(owners.values()) == sorted(
        map(str, (labelled, unlabelled))
    )
    assert len(list(plan.stages(("features",)))) == len(list(plan.stages(("reference",)))) == 2


def test_auto_takes_inception_as_soon_as_its_weights_are_here_and_asking_for_own_features_does_not(
    labelled,
):
    before = planned(labelled).trials[0].reference
    OFFICIAL["inception-v3-compat"].path.parent.mkdir(parents=True)
    OFFICIAL["inception-v3-compat"].path.write_bytes(b"weights")
    after = planned(labelled).trials[0].reference
    assert (
        before.parents and after.content["features"] == "inception-v3-compat" and not after.parents
    )
    asked = (
        planned(labelled, evaluation={**SMALL["evaluation"], "features": "own"}).trials[0].reference
    )
    assert asked.key == before.key


@pytest.mark.parametrize("kind, task", [("labelled", "classes"), ("unlabelled", "views")])
def test_a_trial_is_trained_and_measured_with_them(kind, task, root, request):
    plan = planned(request.getfixturevalue(kind))
    (trial,) = plan.trials
    metrics, _ = run_trial(trial, root)
    own = own_of(trial)
    assert metrics["fid"] > 0 and metrics["fid_features"] == own_name(own.key)
    about = read_facts(Store(root).result(own.key).path("network.safetensors"), own_name(own.key))
    assert about.task == task and about.data_fingerprint == trial.facts.fingerprint
    records = Records(plan, Store(root))
    records.open()
    assert f"{about.held_out_accuracy:.1%} of 12 held-out images" in shown(
        records, View(records, Console()).table()
    )
    for text in (page(records), dry_run(override(plan.experiment, {"storage": str(root)}))):
        assert (
            f"{about.held_out_accuracy:.1%} of" in text
            and ONLY in text
            and own_name(own.key) in text
        )
        assert "give its path as evaluation.weights" in text


def shown(records: Records, what: Any) -> str:
    console = Console(file=io.StringIO(), width=400)
    console.print(what)
    return console.file.getvalue()


def dry_run(experiment: Any) -> str:
    console = Console(file=io.StringIO(), width=400)
    print_plan(opening.make_plan(experiment, "x.yaml", dry=True), console)
    return console.file.getvalue()


def test_a_teacher_is_watched_by_them(labelled, root):
    (trial,) = planned(labelled, evaluation={**SMALL["evaluation"], "every": 1}).trials
    measure_by(trial, root)
    train(trial.chain, trial.config.data, root)
    from orchestrator.work import building

    store = Store(root)
    teacher = trial.chain[0]
    data = data_of(trial.chain[0], trial.config.data)
    watch = Watch(1, None, 16, trial.reference, FeatureWeights())
    network, state = building.trained(store, teacher, data), torch.get_rng_state()
    looks = [look(watch, network, teacher, data, store) for _ in range(2)]
    assert looks[0] == looks[1] and looks[0].fid > 0  # always the same noise
    assert looks[0].picture.startswith(b"\x89PNG")
    assert torch.equal(torch.get_rng_state(), state)


def test_the_inception_score_of_images_without_classes_is_refused(unlabelled, labelled):
    scored = {**SMALL["evaluation"], "metrics": ["fid", "inception_score"]}
    assert planned(labelled, evaluation=scored).trials
    with pytest.raises(
        ConfigError,
        match=r"evaluation\.metrics: got inception_score, expected other metrics: own features",
    ):
        planned(unlabelled, evaluation=scored)


def test_a_dry_run_says_what_own_features_are_before_there_are_any(labelled, tmp_path):
    said = dry_run(planned(labelled, storage=str(tmp_path / "runs")).experiment)
    assert "a small network, to be trained on the images of folder" in said and ONLY in said
    assert OFFICIAL["inception-v3-compat"].url in said and "evaluation.weights" in said
    assert not (tmp_path / "runs").exists()


@pytest.mark.usefixtures("on_shared_ray")
def test_a_sweep_with_own_features_trains_them_once_and_says_how_good_they_are(tmp_path):
    file = TINY.replace("metrics: [fid]", "metrics: [fid], features: own").replace(
        "model: student", "model: teacher"
    )
    (tmp_path / "x.yaml").write_text(
        file + "sweep: {space: {seed: {grid: [0, 1]}}, max_concurrent_trials: 1}\n"
    )
    said = run(tmp_path, "sweep", "x.yaml")
    assert said.returncode == 0, said.stdout + said.stderr
    kinds = {key: json.loads(m)["kind"] for key, m in manifests(tmp_path / "runs").items()}
    assert sorted(kinds.values()) == [
        *["evaluation"] * 2,
        "features",
        *["reference"] * 2,
        *["teacher"] * 2,
    ]
    (key,) = (key for key, kind in kinds.items() if kind == "features")
    assert (
        "own features: done in" in said.stdout
        and "of 355 held-out images classified correctly" in said.stdout
    )
    assert said.stdout.count(ONLY) == 2  # before, and beside the numbers
    (table,) = (tmp_path / "runs" / "sweeps" / "tiny").glob("*/results.csv")
    rows = list(csv.DictReader(table.read_text().splitlines()))
    assert [row["fid_features"] for row in rows] == [f"own-{key[:8]}"] * 2
