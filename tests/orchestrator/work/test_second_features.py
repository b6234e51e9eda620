"""FID by a second extractor: planned, measured, kept, shown, and refused where it says nothing."""

import io
from pathlib import Path
from typing import Any

import pytest
import torch
from in_process import run_trial
from rich.console import Console

from kaccore.data import load
from kaccore.metrics.features import OFFICIAL, SECOND_FEATURES
from kaccore.metrics.fid import Reference, compare, extract
from orchestrator.console.conclusion import print_conclusion
from orchestrator.fields.faults import ConfigError
from orchestrator.plan import plan_file
from orchestrator.plan.plan import Plan
from orchestrator.reports.page import page
from orchestrator.settings.loading import parse
from orchestrator.store.store import Store
from orchestrator.sweeps import opening
from orchestrator.sweeps.records import Records
from orchestrator.tracking.entities import comparability_tags
from orchestrator.work.preflight import weights_needed

pytestmark = pytest.mark.usefixtures("quick_measures")
SMALL: dict[str, Any] = {
    "name": "second",
    "data": {"name": "digits"},
    "path": {"kind": "kac"},
    "model": {"channels": 8, "multipliers": [1], "patch": 4},
    "teacher": {"steps": 3, "batch_size": 8},
    "sampling": {"model": "teacher", "steps": 2},
    "evaluation": {"samples": 80, "metrics": ["fid"], "diagnostics": [], "seeds": 2},
}


def planned(data: str = "digits", **evaluation: Any) -> Plan:
    blocks = {**SMALL, "data": {"name": data}}
    if data == "grid9":
        blocks["model"] = {"kind": "mlp"}
    blocks["evaluation"] = {**SMALL["evaluation"], **evaluation}
    return opening.make_plan(parse(blocks), "x.yaml", dry=data not in ("digits", "mnist", "grid9"))


@pytest.mark.parametrize(
    "data, evaluation, names",
    [
        ("digits", {}, ["digits-cnn-v1", "digits-resnet-v1"]),
        ("mnist", {}, ["mnist-cnn-v1", "mnist-resnet-v1"]),
        ("digits", {"second": None}, ["digits-cnn-v1"]),
        ("digits", {"metrics": ["kid"]}, ["digits-cnn-v1"]),
        ("digits", {"features": "digits-resnet-v1"}, ["digits-resnet-v1"]),
        (
            "digits",
            {"features": "digits-resnet-v1", "second": "digits-cnn-v1"},
            ["digits-resnet-v1", "digits-cnn-v1"],
        ),
        ("grid9", {}, ["points"]),
    ],
)
def test_packaged_images_have_second_features_unless_the_file_says_others(data, evaluation, names):
    (trial,) = planned(data, **evaluation).trials
    assert [stage.reference_spec.features for stage in trial.measured_by()] == names
    assert trial.evaluation.references == trial.measured_by()


def test_another_second_leaves_trained_networks_and_the_first_reference_as_they_are():
    (one,), (other,) = planned().trials, planned(second=None).trials
    assert one.chain == other.chain and one.reference.key == other.reference.key
    assert one.key != other.key


def test_own_features_may_be_the_second():
    (trial,) = planned(second="own").trials
    first, own, second = trial.measured_by()
    assert first.reference_spec.features == "digits-cnn-v1"
    assert own.kind == "features" and second.parents == (own,)


def test_official_weights_of_the_second_are_needed_as_those_of_the_first(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    needed = weights_needed([planned(second="dinov2-vit-s-14").experiment])
    assert [(w.features, w.path, w.sha256) for w in needed] == [("dinov2-vit-s-14", None, None)]
    assert needed[0].features in OFFICIAL


@pytest.mark.parametrize(
    "evaluation, what",
    [
        (
            {"second": "mnist-resnet-v1"},
            r"evaluation\.second: got \"mnist-resnet-v1\".*for data digits",
        ),
        (
            {"features": "digits-cnn-v1", "second": "digits-cnn-v1"},
            r"evaluation\.second: .*evaluation\.features already",
        ),
        ({"second": "digits-cnn-v1"}, "as the first"),
        ({"second": "digits-resnet"}, "did you mean"),
    ],
)
def test_a_second_that_checks_nothing_is_refused(evaluation, what):
    with pytest.raises(ConfigError, match=what):
        planned(**evaluation)


def test_a_plan_that_is_read_again_has_them_and_one_of_before_has_none():
    plan = planned()
    noted = plan_file.to_plain(plan)
    (trial,) = plan_file.of_noted(noted, plan.experiment).trials
    assert trial.second.reference_spec.features == "digits-resnet-v1"
    assert trial.facts.second == "digits-resnet-v1" and trial.key == plan.trials[0].key
    before = planned(second=None)
    noted = plan_file.to_plain(before)
    del noted["trials"][0]["second"]
    (trial,) = plan_file.of_noted(noted, before.experiment).trials
    assert trial.second is None and trial.facts.second is None


def test_fid_second_is_the_fid_by_the_second_extractor_and_is_shown_wherever_fid_is(tmp_path: Path):
    plan = planned()
    (trial,) = plan.trials
    metrics, _ = run_trial(trial, tmp_path)
    assert metrics["fid_second_features"] == "digits-resnet-v1"
    assert {"fid_second_std", "fid_second_of_real"} <= metrics.keys()
    assert metrics["fid_second"] > metrics["fid_second_of_real"] > 0
    records = Records(plan, Store(tmp_path))
    records.open()
    assert records.rows()[0]["fid_second"] == metrics["fid_second"]
    assert comparability_tags(records, trial)["fid_second_features"] == "digits-resnet-v1"
    console = Console(file=io.StringIO(), width=400)
    print_conclusion(records, console)
    for text in (console.file.getvalue(), page(records)):
        assert "fid_second is the FID by digits-resnet-v1" in text
        assert f"{metrics['fid_second']:.4g}" in text


@pytest.mark.parametrize("name", ["digits", "mnist"])
def test_the_second_extractor_sees_contrast_noise_and_a_missing_class(name):
    data, features = load(name), SECOND_FEATURES[name]
    reference = Reference.build(data, features)
    generator = torch.Generator().manual_seed(0)
    real = data.images[torch.randperm(len(data), generator=generator)[: len(data) // 2]]
    noise = 8 * torch.randn(real.shape, generator=generator)
    fid = lambda images: compare(extract(images, features), reference)["fid"]  # noqa: E731
    floor = fid(real)
    assert fid((real * 0.9).round().to(torch.uint8)) > 3 * floor
    assert fid((real + noise).round().clamp(0, 255).to(torch.uint8)) > 1.1 * floor
    assert fid(data.images[data.labels != 3]) > 5 * floor
