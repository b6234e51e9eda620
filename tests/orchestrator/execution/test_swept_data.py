"""A sweep over the data: identity, facts, features and what workers read belong to each trial."""

import csv
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import run
from in_process import run_trial
from made_up import made, measured
from page_reader import page
from PIL import Image
from rich.console import Console

from kaccore.data import load
from orchestrator.console import conclusion
from orchestrator.fields.faults import ConfigError
from orchestrator.plan import data as dataset_info
from orchestrator.plan.plan import Plan, Trial
from orchestrator.settings.loading import parse
from orchestrator.store.store import Store
from orchestrator.sweeps import opening
from orchestrator.sweeps.ranking import best_so_far, rankings
from orchestrator.sweeps.records import Records
from orchestrator.tracking import registry
from orchestrator.work import pictures

pytestmark = pytest.mark.usefixtures("quick_measures")
TINY: dict[str, Any] = {
    "name": "data",
    "path": {"kind": "kac"},
    "model": {"channels": 8, "multipliers": [1], "patch": 4},
    "teacher": {"steps": 3, "batch_size": 8},
    "sampling": {"model": "teacher", "steps": 2},
    "evaluation": {"samples": 16, "metrics": ["fid"], "diagnostics": []},
}


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("photographs")
    for k in range(12):
        pixels = np.random.default_rng(k).integers(0, 256, (20, 20, 3), dtype=np.uint8)
        (root / f"class {k % 2}").mkdir(exist_ok=True)
        Image.fromarray(pixels).save(root / f"class {k % 2}" / f"{k}.png")
    return root


def planned(data: dict[str, Any], space: dict[str, list[Any]], **blocks: Any) -> Plan:
    swept = {key: {"grid": values} for key, values in space.items()}
    return opening.make_plan(
        parse({**TINY, **blocks, "data": data, "sweep": {"space": swept}}), "x.yaml"
    )


def test_other_sizes_of_the_same_images_are_other_networks(photographs):
    inception = {"features": "inception-v3-compat", "samples": 16}
    own = {"name": "folder", "root": str(photographs), "size": 8}
    one, two = planned(own, {"data.size": [8, 16]}, evaluation=inception).trials
    assert one.facts.data.size == 8 and two.facts.data.size == 16
    for at, (trial, size) in enumerate([(one, 8), (two, 16)]):
        assert trial.facts.fingerprint == load("folder", photographs, size=size).fingerprint, at
        assert trial.chain[0].data.fingerprint == trial.facts.fingerprint
    assert len({stage.key for trial in (one, two) for stage in trial.stages()}) == 6


def test_each_data_set_has_its_own_fingerprint_features_and_classes():
    one, two = planned({"name": "digits"}, {"data.name": ["digits", "mnist"]}).trials
    for trial, name in ((one, "digits"), (two, "mnist")):
        assert trial.facts.fingerprint == load(name).fingerprint
        assert trial.facts.features == trial.reference.content["features"] == f"{name}-cnn-v1"
        assert trial.reference.data.fingerprint == trial.facts.fingerprint
    assert not {s.key for s in one.stages()} & {s.key for s in two.stages()}


def test_trials_of_two_data_sets_are_trained_and_measured_on_their_own(tmp_path):
    found = {}
    for trial in planned({"name": "digits"}, {"data.name": ["digits", "mnist"]}).trials:
        metrics, folder = run_trial(trial, tmp_path)
        with np.load(folder / "samples.npz") as file:
            found[trial.config.data.name] = metrics["fid_features"], file["images"].shape[1:]
    assert found == {"digits": ("digits-cnn-v1", (8, 8, 1)), "mnist": ("mnist-cnn-v1", (28, 28, 1))}


def test_a_report_shows_the_training_images_of_each_data_set_and_what_was_done_to_them(
    tmp_path, photographs
):
    Image.new("RGBA", (5, 7), (255, 0, 0, 0)).save(photographs / "class 0" / "clear.png")
    own = {"name": "folder", "root": str(photographs), "size": 8, "background": "#0000ff"}
    plan = planned(
        own, {"data.size": [4, 8]}, evaluation={"features": "inception-v3-compat", "samples": 16}
    )
    records = made(tmp_path / "runs", plan)
    for stage in plan.stages(("reference",)):  # as its task does, without Inception
        records.store.remove(stage.key)
        folder = records.store.gather(stage)
        size = 4 if stage.data.fingerprint == plan.trials[0].facts.fingerprint else 8
        (folder / "real.png").write_bytes(
            pictures.panel(load("folder", photographs, size=size, background="#0000ff"))
        )
        records.store.publish(stage, folder, 1.0)
    conclusion.write(records)
    assert {p.name for p in (records.folder / "figures").glob("real*.png")} == {
        "real-0.png",
        "real-1.png",
    }
    found = page(records)
    assert (
        "Training images: folder, size 4" in found.said
        and "Training images: folder, size 8" in found.said
    )
    assert (
        found.said.count("composed on") == 2
        and "13 images, 2 classes: class 0, class 1" in found.said
    )
    assert found.text.count('alt="training images: folder, size ') == 2
    (photographs / "class 0" / "clear.png").unlink()


def test_a_worker_that_is_given_other_images_than_were_planned_refuses(tmp_path, photographs):

    own = {"name": "folder", "root": str(photographs), "size": 8}
    trial = planned(own, {"seed": [0]}, evaluation={"features": "inception-v3-compat"}).trials[0]
    wrong = trial.config.data.model_copy(update={"size": 16})
    with pytest.raises(ValueError, match="differs from the driver's"):
        dataset_info.checked(dataset_info.images(wrong), trial.chain[0])


def test_the_faults_of_every_data_set_are_told(tmp_path, photographs):
    (tmp_path / "unlabelled").mkdir()
    for file in photographs.rglob("*.png"):
        (tmp_path / "unlabelled" / file.name).write_bytes(file.read_bytes())
    space = {"data.root": [str(photographs), str(tmp_path / "unlabelled")]}
    settings = {
        "evaluation": {"features": "inception-v3-compat"},
        "sampling": {"model": "teacher", "labels": 1},
    }
    with pytest.raises(ConfigError) as refused:
        planned({"name": "folder", "root": str(photographs), "size": 8}, space, **settings)
    assert "sampling.labels: got 1, expected null: folder has no labels" in str(refused.value)


@pytest.mark.parametrize("how", [{"search": "optuna", "num_trials": 4}, {"scheduler": "asha"}])
@pytest.mark.parametrize(
    "key, values", [("data.name", ["digits", "mnist"]), ("evaluation.features", ["auto"])]
)
def test_fids_that_do_not_compare_are_not_searched_or_stopped_by(how, key, values):
    sweep = {**how, "space": {key: {"grid": values}}}
    config = {**TINY, "data": {"name": "digits"}, "evaluation": {"every": 1}, "sweep": sweep}
    with pytest.raises(ConfigError) as refused:
        parse(config)
    kind = "optuna" if "search" in how else "asha"
    assert (
        f"{kind} ranks trials by {'fid' if kind == 'optuna' else 'FID'}, which does not compare"
        in str(refused.value)
    )
    assert key in str(refused.value)


def test_a_plan_that_is_read_back_is_the_plan_that_was_written(tmp_path):
    space = {"data.name": ["digits", "mnist"], "sampling.steps": [1, 2]}
    plan = planned({"name": "digits"}, space, storage=str(tmp_path / "runs"))
    records = Records(plan, Store(tmp_path / "runs"))
    records.open()
    again = opening.records_of(records.folder).plan
    assert again.id == plan.id and again.names == plan.names
    for before, after in zip(plan.trials, again.trials, strict=True):
        assert before.config == after.config and before.facts == after.facts
        assert [s.key for s in before.stages()] == [s.key for s in after.stages()]
        assert before.stages() == after.stages()
        assert {n: s.key for n, s in before.students.items()} == {
            n: s.key for n, s in after.students.items()
        }
    assert json.loads((records.folder / "plan.json").read_text())["version"] == 2


def on_two_data_sets(root: Path) -> Records:
    """A finished sweep over two data sets, the FIDs of one of which are far above the other's."""
    space = {"data.name": ["digits", "mnist"], "sampling.steps": [1, 2]}
    plan = planned({"name": "digits"}, space, teacher={"steps": 3, "batch_size": 8})

    def measure(trial: Trial) -> dict[str, Any]:
        far = 100.0 if trial.config.data.name == "mnist" else 1.0
        return measured(trial) | {
            "fid": far / trial.config.sampling.steps,
            "fid_features": trial.facts.features,
        }

    return made(root, plan, measure)


def test_numbers_on_different_data_are_in_no_ranking_table_or_figure_together(tmp_path):
    records = on_two_data_sets(tmp_path / "runs")
    scales = ["digits-cnn-v1 on digits", "mnist-cnn-v1 on mnist"]
    assert {scale: [index for index, _ in best] for scale, best in rankings(records).items()} == {
        scales[0]: [1, 0], scales[1]: [3, 2],
    }  # fmt: skip
    console = Console(file=io.StringIO(), width=140)
    conclusion.write(records)
    conclusion.print_conclusion(records, console)
    said = console.file.getvalue()
    assert said.index(f"trials, {scales[0]}, best first") < said.index(
        f"trials, {scales[1]}, best first"
    )
    found = page(records)
    drawn = {name: {y for trace in chart["data"] for y in trace["y"]} for name, chart in found.charts.items()
             if name.startswith("fid_vs_nfe")}  # fmt: skip
    assert drawn == {"fid_vs_nfe-0": {1.0, 0.5}, "fid_vs_nfe-1": {100.0, 50.0}}
    assert found.text.count('<table class="sortable">') == 2
    assert (
        len(best_so_far(records)) == 2 and len(registry.best_trials(records)) == 0
    )  # no network lies there


def test_the_same_features_on_other_images_are_another_scale(tmp_path, photographs):
    own = {"name": "folder", "root": str(photographs), "size": 8}
    inception = {"features": "inception-v3-compat", "samples": 16}
    plan = planned(own, {"data.size": [8, 16]}, evaluation=inception)
    records = made(
        tmp_path / "runs",
        plan,
        lambda trial: measured(trial) | {"fid_features": "inception-v3-compat"},
    )
    assert list(rankings(records)) == [
        f"inception-v3-compat on folder, size {size}" for size in (8, 16)
    ]


def test_stages_are_called_by_what_differs(tmp_path):
    space = {"path.damping": [9.0, 25.0], "seed": [0, 1], "sampling.steps": [1, 2]}
    plan = planned({"name": "digits"}, space)
    names = {plan.names[stage.key] for stage in plan.stages(("teacher",))}
    assert names == {f"teacher, damping {d}, seed {s}" for d in (9, 25) for s in (0, 1)}
    assert [plan.names[stage.key] for stage in plan.stages(("reference",))] == [
        "reference",
        "second reference",
    ]


@pytest.mark.usefixtures("on_shared_ray")
def test_a_real_sweep_over_two_data_sets_trains_and_measures_each_on_its_own(tmp_path):
    space = {"data.name": {"grid": ["digits", "mnist"]}}
    sweep = {"space": space, "max_concurrent_trials": 1}  # the second one imports nothing again
    (tmp_path / "x.yaml").write_text(
        json.dumps({**TINY, "data": {"name": "digits"}, "sweep": sweep})
    )
    said = run(tmp_path, "sweep", "x.yaml")
    assert said.returncode == 0, said.stdout + said.stderr
    (folder,) = (tmp_path / "runs" / "sweeps" / "data").iterdir()
    with (folder / "results.csv").open() as file:
        rows = {row["data.name"]: row for row in csv.DictReader(file)}
    assert {name: row["fid_features"] for name, row in rows.items()} == {
        n: f"{n}-cnn-v1" for n in ("digits", "mnist")
    }
    for trial in opening.records_of(folder).plan.trials:
        name = trial.config.data.name
        for stage in trial.stages():
            manifest = json.loads(
                (tmp_path / "runs" / "stages" / stage.key / "manifest.json").read_text()
            )
            assert (
                manifest["config"].get("data", stage.data.content)["fingerprint"]
                == load(name).fingerprint
            )
            if stage.kind == "teacher":
                assert manifest["data"]["size"] == {"digits": 8, "mnist": 28}[name]
    assert "digits-cnn-v1 on digits" in said.stdout and "mnist-cnn-v1 on mnist" in said.stdout
