"""Several averages of the weights of one training, of which one is chosen afterwards."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from in_process import run_trial

from orchestrator import export, sample
from orchestrator.fields.faults import ConfigError
from orchestrator.plan import data as data_info
from orchestrator.plan.plan import Plan
from orchestrator.settings.loading import parse
from orchestrator.store import layout, network_folder
from orchestrator.store.store import Store
from orchestrator.sweeps import opening
from orchestrator.work import building
from orchestrator.work.evaluation import data_of
from orchestrator.work.network_sampler import NetworkSampler

pytestmark = pytest.mark.usefixtures("quick_measures")
SMALL: dict[str, Any] = {
    "name": "averaged",
    "data": {"name": "digits"},
    "path": {"kind": "kac"},
    "model": {"channels": 8, "multipliers": [1], "patch": 4},
    "teacher": {"steps": 30, "batch_size": 8, "lr": 0.01, "ema": 0.9, "averages": [0.5, 0.0]},
    "distill": {"intervals": [2], "teacher_steps": 2, "steps": 12, "batch_size": 8, "ema": 0.9,
                "averages": [0.25], "calibrate": True},
    "sampling": {"model": "student", "steps": 2},
    "evaluation": {"samples": 64, "metrics": ["fid"], "diagnostics": []},
    "sweep": {"metric": "fid", "space": {
        "sampling.model": {"grid": ["teacher", "student"]},
        "sampling.ema": {"grid": [None, 0.9, 0.5, 0.25]},
    }},
}  # fmt: skip


def planned(**blocks: dict[str, Any]) -> Plan:
    config = {**SMALL, **{name: {**SMALL.get(name, {}), **block} for name, block in blocks.items()}}
    return opening.make_plan(parse(config), "x.yaml")


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> tuple[Plan, Path]:
    root, plan = tmp_path_factory.mktemp("averaged"), planned()
    for trial in plan.trials:
        run_trial(trial, root)
    return plan, root


def trials(plan: Plan, model: str) -> dict[Any, Any]:
    return {
        trial.config.sampling.ema: trial
        for trial in plan.trials
        if trial.config.sampling.model == model
    }


def test_all_averages_are_of_one_training_and_each_is_measured(sweep):
    plan, root = sweep
    assert len(list(plan.stages(("teacher", "student")))) == 2
    for model, other in (("teacher", 0.5), ("student", 0.25)):
        of = trials(plan, model)
        assert set(of) == {None, 0.9, other}
        assert of[None].key == of[0.9].key != of[other].key  # its ema by its number is no other
        fids = [
            Store(root).result(of[ema].key).json("metrics.json")["fid"] for ema in (None, other)
        ]
        assert fids[0] != fids[1]
    assert {skipped.reason for skipped in plan.skipped} == {
        "sampling.ema: got 0.25, expected one of 0.9, 0.5, 0: teacher.ema and teacher.averages",
        "sampling.ema: got 0.5, expected one of 0.9, 0.25: distill.ema and distill.averages",
    }


def test_each_average_is_that_of_a_training_with_its_decay(sweep):
    plan, root = sweep
    (trial,) = planned(teacher={"ema": 0.5, "averages": []}, sweep={
        "metric": "fid", "space": {"sampling.model": {"grid": ["teacher"]}}}).trials  # fmt: skip
    run_trial(trial, root)
    store, teacher = Store(root), plan.trials[0].chain[0]
    alone = building.averaged(store, trial.chain[0])
    kept = building.finished(store, teacher, 0.5)
    assert all(torch.equal(kept[name], value) for name, value in alone.items())
    last = building.finished(store, teacher, 0.0)
    assert not all(torch.equal(last[name], value) for name, value in alone.items())


def test_each_average_of_a_calibrated_network_has_a_tone_curve_of_its_own(sweep):
    plan, root = sweep
    student = trials(plan, "student")[None].chain[-1]
    one, other = (building.finished(Store(root), student, ema) for ema in (None, 0.25))
    assert not torch.equal(one[layout.TONE[0]], other[layout.TONE[0]])


def test_the_chosen_average_is_sampled_exported_and_served(sweep, tmp_path, capsys):
    plan, root = sweep
    trial = trials(plan, "student")[0.25]
    file = tmp_path / "x.yaml"
    config = trial.config.to_yaml().replace("storage: runs", f"storage: {root}")
    file.write_text(config)
    out = tmp_path / "images.npz"
    drawn = ["--count", "4", "--labels", "3,7", "--out", str(out)]
    assert sample.main([str(file), *drawn]) == 0
    assert "average of decay 0.25" in capsys.readouterr().out
    with np.load(out) as archive:
        wanted = archive["images"]
    assert export.main([str(file), "--format", "torchscript", "--out", str(tmp_path / "x.pt")]) == 0
    assert "average of decay 0.25" in capsys.readouterr().out
    stage = trial.chain[-1]
    result = Store(root).result(stage.key)
    sizes = data_info.sizes(data_of(stage, trial.config.data))
    network_folder.write(tmp_path / "folder", trial.config, stage, result, sizes)
    served = NetworkSampler(tmp_path / "folder").draw({"count": 4, "labels": [3, 7]})
    assert np.array_equal(np.array(served["images"]), wanted)
    assert sample.main([str(file), *drawn, "--model", "teacher"]) == 0  # which has no such average
    assert "average of decay" not in capsys.readouterr().out
    plain = [*drawn, "--set", "sampling.ema=null"]
    assert sample.main([str(file), *plain]) == 0
    with np.load(out) as archive:
        assert not np.array_equal(archive["images"], wanted)


@pytest.mark.parametrize("values, message", [
    ({"teacher": {"averages": [0.5, 0.5]}}, r"teacher\.averages: .*0\.5"),
    ({"distill": {"averages": [1.0]}}, r"distill\.averages"),
    ({"sampling": {"ema": 0.99}, "sweep": None}, r"sampling\.ema: got 0\.99, expected one of 0\.9, 0\.25"),
])  # fmt: skip
def test_averages_that_are_not_kept_are_refused(values, message):
    blocks = {k: ({**SMALL[k], **v} if v is not None else None) for k, v in values.items()}
    with pytest.raises(ConfigError, match=message):
        opening.make_plan(parse({**SMALL, **blocks}), "x.yaml")
