"""Tone curves of trained networks: made with them, kept with them, used by all that sample."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from in_process import run_trial
from rich.console import Console

from kaccore.tone import Calibrated, tone_of
from orchestrator import export, sample
from orchestrator.console.conclusion import print_conclusion
from orchestrator.fields.faults import ConfigError
from orchestrator.plan.plan import Plan
from orchestrator.settings.loading import parse
from orchestrator.store import layout, network_folder
from orchestrator.store.store import Store
from orchestrator.sweeps import opening
from orchestrator.sweeps.records import Records
from orchestrator.work import building
from orchestrator.work.evaluation import data_of
from orchestrator.work.network_sampler import NetworkSampler

pytestmark = pytest.mark.usefixtures("quick_measures")
SMALL: dict[str, Any] = {
    "name": "toned",
    "data": {"name": "digits"},
    "path": {"kind": "kac"},
    "model": {"channels": 8, "multipliers": [1], "patch": 4},
    "teacher": {"steps": 30, "batch_size": 8, "lr": 0.01, "ema": 0.5},
    "distill": {"intervals": [2], "teacher_steps": 2, "steps": 3, "batch_size": 8},
    "sampling": {"model": "student", "steps": 2},
    "evaluation": {"samples": 64, "metrics": ["fid"], "diagnostics": []},
}


def planned(**blocks: dict[str, Any]) -> Plan:
    config = {**SMALL, **{name: {**SMALL.get(name, {}), **block} for name, block in blocks.items()}}
    return opening.make_plan(parse(config), "x.yaml")


CALIBRATED = {"teacher": {"calibrate": True}, "distill": {"calibrate": True}}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with a teacher and a student that are calibrated, and with the same ones that are not."""
    folder = tmp_path_factory.mktemp("toned")
    for blocks in (CALIBRATED, {}):
        (trial,) = planned(**blocks).trials
        run_trial(trial, folder)
    return folder


def test_the_weights_are_those_of_the_same_training_without_a_curve(root):
    (toned,), (plain,) = planned(**CALIBRATED).trials, planned().trials
    store = Store(root)
    for one, other in zip(toned.chain, plain.chain, strict=True):
        assert one.key != other.key
        with_curve, without = building.finished(store, one), building.finished(store, other)
        assert with_curve.keys() - without.keys() == {*layout.TONE}
        weights = building.averaged(store, one)
        assert all(torch.equal(weights[name], value) for name, value in without.items())


def test_pixel_values_of_the_images_are_those_of_the_data(root):
    (trial,) = planned(**CALIBRATED).trials
    result = Store(root).result(trial.key)
    images = np.load(result.path("samples.npz"))["images"]
    (plain,) = planned().trials
    before = np.load(Store(root).result(plain.key).path("samples.npz"))["images"]
    real = data_of(trial.chain[0], trial.config.data).images
    assert abs(images.mean() - float(real.float().mean())) < 8
    assert abs(before.mean() - float(real.float().mean())) > 8  # three steps teach little
    black = [float((x == 0).mean()) for x in (images, before, real.numpy())]
    assert abs(black[0] - black[2]) < abs(black[1] - black[2])


def test_an_evaluation_may_leave_the_curve_out_and_says_which_it_did(root):
    (with_curve,) = planned(**CALIBRATED).trials
    plan = planned(**CALIBRATED, sampling={"calibrated": False})
    (without,) = plan.trials
    assert without.chain == with_curve.chain and without.key != with_curve.key
    metrics, _ = run_trial(without, root)
    (plain,) = planned().trials
    store = Store(root)
    of = lambda trial: store.result(trial.key).json("metrics.json")  # noqa: E731
    assert metrics["fid"] == of(plain)["fid"] != of(with_curve)["fid"]
    assert of(with_curve)["calibrated"] == 1 and "calibrated" not in metrics
    for shown, words in ((planned(**CALIBRATED), "calibrated: all"), (plan, "")):
        records = Records(shown, store)
        records.open()
        console = Console(file=io.StringIO(), width=300)
        print_conclusion(records, console)
        assert ("calibrated:" in console.file.getvalue()) == bool(words)
        assert words in console.file.getvalue()


def test_sample_and_export_draw_what_the_evaluation_measures(root, tmp_path, capsys):
    (trial,) = planned(**CALIBRATED).trials
    store = Store(root)
    model = building.trained(store, trial.chain[-1], data_of(trial.chain[0], trial.config.data))
    assert isinstance(model, Calibrated) and tone_of(model) is model.tone
    file = tmp_path / "x.yaml"
    config = planned(**CALIBRATED).experiment
    file.write_text(config.to_yaml().replace("storage: runs", f"storage: {root}"))
    out = tmp_path / "a.npz"
    assert sample.main([str(file), "--count", "4", "--out", str(out)]) == 0
    assert ", calibrated, seed 0" in capsys.readouterr().out
    result = store.result(trial.chain[-1].key)
    served = tmp_path / "network"
    network_folder.write(served, trial.config, trial.chain[-1], result, result.manifest["data"])
    images = NetworkSampler(served).draw({"count": 4, "labels": [3]})["images"]
    command = [str(file), "--count", "4", "--labels", "3", "--out", str(out)]
    assert sample.main(command) == 0 and capsys.readouterr()
    with np.load(out) as archive:
        assert (archive["images"] == np.array(images)).all()
    exported = tmp_path / "a.torchscript"
    assert export.main([str(file), "--format", "torchscript", "--out", str(exported)]) == 0
    assert "largest difference from the original" in capsys.readouterr().out


@pytest.mark.parametrize("block", ["teacher", "distill"])
def test_points_have_no_tone(block):
    with pytest.raises(ConfigError, match=rf"{block}\.calibrate: got true.*are points"):
        planned(
            data={"name": "grid9"},
            model={"kind": "mlp", "channels": 8},
            **{block: {"calibrate": True}},
        )
