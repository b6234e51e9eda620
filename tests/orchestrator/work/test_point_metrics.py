"""Points in the plane through training, sampling, scoring and the report, in this process."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from in_process import run_trial
from PIL import Image
from stages import own_keys

from kaccore.data import load
from orchestrator import sample
from orchestrator.console import conclusion
from orchestrator.fields.faults import ConfigError
from orchestrator.plan.plan import Plan
from orchestrator.settings.loading import load as load_file
from orchestrator.settings.loading import override, parse
from orchestrator.store.store import Store
from orchestrator.sweeps import opening
from orchestrator.sweeps.records import Records
from orchestrator.work import evaluation

pytestmark = pytest.mark.usefixtures("quick_measures")
MLP = {"kind": "mlp", "channels": 32, "depth": 2}
BASE: dict[str, Any] = {
    "name": "plane",
    "data": {"name": "grid9"},
    "path": {"kind": "kac", "clock": "quadratic"},
    "model": MLP,
    "teacher": {"steps": 300, "batch_size": 128, "ema": 0.98},
    "distill": {"intervals": [2, 1], "teacher_steps": 4, "steps": 10, "batch_size": 64},
    "sampling": {"steps": 1},
    "evaluation": {"samples": 400, "metrics": ["fid", "w2", "log_likelihood"]},
}
TEACHER = {"model": "teacher", "steps": 16, "solver": "ab2"}
EARLY = {"steps": 1, "batch_size": 8, "lr": 1e-9}
PATHS = ("kac", "diffusion", "flow_matching")
DISTILLERS = ("endpoint", "progressive", "consistency", "flow_map", "matching")


def planned(**blocks: dict[str, Any]) -> Plan:
    config = {**BASE, **{name: {**BASE.get(name, {}), **block} for name, block in blocks.items()}}
    return opening.make_plan(parse(own_keys(config)), "plane")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One store for all: what they share is trained once."""
    evaluation.network.cache_clear()
    return tmp_path_factory.mktemp("plane")


@pytest.mark.parametrize("path", PATHS)
def test_a_trained_teacher_is_nearer_to_the_data_than_an_untrained_one(path, root):
    (early,) = planned(path={"kind": path}, teacher=EARLY, sampling=TEACHER).trials
    (late,) = planned(path={"kind": path}, sampling=TEACHER).trials
    (before, _), (after, folder) = run_trial(early, root), run_trial(late, root)
    assert after["fid_features"] == "points"
    assert after["w2"] < 0.7 * before["w2"] and after["fid"] < before["fid"]
    assert after["w2"] < 1.5 * after["w2_of_real"]
    assert before["log_likelihood"] < 0  # the prior's own density, as the field is still zero
    assert 2 < after["log_likelihood"] < after["log_likelihood_of_real"] + 0.1
    assert after["log_likelihood_impossible"] == 0
    points = np.load(folder / "samples.npz")["points"]
    assert points.shape == (400, 2) and np.abs(points).mean() == pytest.approx(4 / 9, abs=0.06)
    assert not (folder / "nearest.png").exists()
    with Image.open(folder / "samples.png") as picture:
        assert len(picture.getcolors(2**24)) > 100  # axes, and points in two colours that blend


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("kind", DISTILLERS)
def test_every_student_is_measured(path, kind, root):
    (trial,) = planned(path={"kind": path}, distill={"kind": kind}).trials
    metrics, folder = run_trial(trial, root)
    assert 0 < metrics["w2"] < 1 and metrics["nfe"] == 1 and (folder / "gap.png").exists()
    assert metrics["gap_at_ends"] > 0 and 0 <= metrics["memorisation_fraction"] <= 1
    assert ("log_likelihood" in metrics) == (kind in ("endpoint", "progressive"))


def test_the_likelihood_has_no_prior_to_rest_on_where_the_signal_keeps_data(root):
    brief = {"steps": 2, "batch_size": 8}
    (trial,) = planned(path={"signal": "exponential"}, teacher=brief, sampling=TEACHER).trials
    metrics, _ = run_trial(trial, root)
    assert "w2" in metrics and "log_likelihood" not in metrics


def test_an_unlabelled_teacher_has_a_likelihood_of_points_without_labels(root):
    teacher = {**BASE["teacher"], "label_dropout": None}
    (trial,) = planned(teacher=teacher, sampling=TEACHER).trials
    metrics, _ = run_trial(trial, root)
    entropy = np.log(9) + 1 + np.log(2 * np.pi * 0.05**2)
    assert metrics["log_likelihood_of_real"] == pytest.approx(-entropy, abs=0.2)
    assert metrics["log_likelihood"] < metrics["log_likelihood_of_real"] + 0.1


def test_a_sweep_draws_the_ways_of_its_paths_and_lists_what_points_have(root):
    sweep = {"metric": "w2", "space": {"path.kind": {"grid": list(PATHS)}}}
    plan = planned(sweep=sweep, sampling=TEACHER, evaluation={"metrics": ["w2"]})
    for trial in plan.trials:
        run_trial(trial, root)
    records = Records(plan, Store(root))
    records.open()
    conclusion.write(records)
    with Image.open(records.folder / "figures" / "trajectories.png") as figure:
        assert figure.width > 2.5 * figure.height  # three panels side by side
    names = {path.stem for path in (records.folder / "figures").iterdir()}
    assert names == {
        "parallel",
        "energy",
        "losses",
        "samples_by_nfe",
        "trajectories",
        "real",
    }
    report = (records.folder / "report.html").read_text()
    assert 'alt="trajectories"' in report and ">W2<" in report
    header, *rows = (records.folder / "results.csv").read_text().splitlines()
    at = header.split(",").index("w2")
    assert all(0 < float(row.split(",")[at]) < 1 for row in rows) and "log_likelihood" not in header


def test_points_are_sampled_from_the_command_line(root, tmp_path):
    plan = planned(sampling=TEACHER)
    run_trial(plan.trials[0], root)
    file = tmp_path / "x.yaml"
    file.write_text(override(plan.experiment, {"storage": str(root)}).to_yaml())
    for name in ("x.npz", "x.png"):
        assert (
            sample.main(
                [str(file), "--count", "20", "--labels", "4", "--out", str(tmp_path / name)]
            )
            == 0
        )
    points = np.load(tmp_path / "x.npz")["points"]
    assert (
        points.shape == (20, 2) and np.abs(points).max() < 0.34
    )  # mode 4 is the one in the middle
    assert Image.open(tmp_path / "x.png").size[0] > 100


@pytest.mark.parametrize(
    "blocks, message",
    [
        ({"model": {"kind": "unet"}}, "model.kind: got unet, expected mlp: grid9 has points in the plane"),
        ({"model": {"kind": "dit"}}, "model.kind: got dit, expected mlp: grid9 has points in the plane"),
        ({"evaluation": {"features": "inception-v3-compat"}}, "expected auto or points for data grid9"),
        ({"evaluation": {"metrics": ["inception_score"]}}, "evaluation.metrics: got inception_score, expected other"),
        ({"teacher": {"label_dropout": None}, "evaluation": {"metrics": ["fid_per_class"]}}, "trains without labels"),
        ({"data": {"name": "digits"}}, "evaluation.metrics: got w2, expected other metrics: the data of digits are"),
        ({"data": {"name": "digits"}, "evaluation": {"metrics": ["log_likelihood"]}}, "got log_likelihood, expected"),
        ({"data": {"name": "digits"}, "evaluation": {"metrics": ["fid"], "features": "points"}},
         'evaluation.features: got "points", expected auto, digits-cnn-v1, digits-resnet-v1, own, inception-'),
        ({"data": {"name": "celeba64", "root": "/d"}, "evaluation": {"metrics": ["fid_per_class"]}},
         "evaluation.metrics: got fid_per_class, expected other metrics: celeba64 has no labels"),
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_refused_in_one_line(blocks, message):
    with pytest.raises(ConfigError, match=re.escape(message)) as refused:
        planned(**blocks)
    assert len(refused.value.faults) == 1


def test_points_measured_by_points_features_are_told_by_auto():
    asked = planned(evaluation={"features": "points"}).trials[0]
    auto = planned().trials[0]
    assert (
        asked.key == auto.key
        and auto.reference is not None
        and auto.reference.content["features"] == "points"
    )


def test_the_experiment_in_the_plane_is_sound():
    plan = opening.make_plan(
        load_file(Path(__file__).parents[3] / "experiments" / "toy_2d.yaml"), "toy_2d.yaml"
    )
    assert {t.config.path.kind for t in plan.trials} == set(PATHS)
    assert len(list(plan.stages(("teacher",)))) == 3
    assert load("grid9").fingerprint == plan.trials[0].chain[0].content["data"]["fingerprint"]
