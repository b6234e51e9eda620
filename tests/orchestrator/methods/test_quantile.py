"""The path to noise that is fitted to the data, through a sweep: trained, distilled, sampled, exported."""

from pathlib import Path
from typing import Any

import pytest
import torch
from in_process import run_trial

from kaccore.export.portable import from_safetensors
from orchestrator import export, sample
from orchestrator.fields.faults import ConfigError
from orchestrator.plan.plan import Plan
from orchestrator.settings.loading import parse
from orchestrator.store.store import Store
from orchestrator.sweeps import opening

pytestmark = pytest.mark.usefixtures("quick_measures")
SMALL: dict[str, Any] = {
    "name": "fitted",
    "data": {"name": "digits"},
    "path": {"kind": "quantile", "knots": 9},
    "model": {"channels": 8, "multipliers": [1], "patch": 4},
    "teacher": {"steps": 30, "batch_size": 8, "lr": 0.01, "ema": 0.5},
    "distill": {"kind": "adversarial", "intervals": [1], "pairs": 20, "teacher_steps": 2, "steps": 3,
                "batch_size": 8, "width": 4},
    "sampling": {"steps": 1},
    "evaluation": {"samples": 64, "metrics": ["fid"], "diagnostics": []},
    "sweep": {"metric": "fid", "space": {"sampling.model": {"grid": ["teacher", "student"]}}},
}  # fmt: skip


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> tuple[Plan, Path]:
    root = tmp_path_factory.mktemp("fitted")
    plan = opening.make_plan(parse(SMALL), "x.yaml")
    for trial in plan.trials:
        run_trial(trial, root)
    return plan, root


def test_it_is_trained_distilled_and_measured_with_a_light_cone(sweep):
    plan, root = sweep
    for trial in plan.trials:
        metrics = Store(root).result(trial.key).json("metrics.json")
        assert metrics["fid"] > 0 and "light_cone_violations" in metrics
    assert {trial.config.sampling.model for trial in plan.trials} == {"teacher", "student"}


def test_its_student_is_sampled_and_exported(sweep, tmp_path, capsys):
    plan, root = sweep
    file = tmp_path / "x.yaml"
    file.write_text(plan.trials[-1].config.to_yaml().replace("storage: runs", f"storage: {root}"))
    assert sample.main([str(file), "--count", "4", "--out", str(tmp_path / "x.npz")]) == 0
    out = tmp_path / "x.safetensors"
    assert export.main([str(file), "--format", "safetensors", "--out", str(out)]) == 0
    _, about = from_safetensors(out)
    assert (about["noise"]["law"], about["noise"]["knots"]) == ("quantile", 9)


@pytest.mark.parametrize("key, value, message", [
    ("knots", 1, r"path\.knots: got 1, expected"),
    ("smooth", -0.1, r"path\.smooth: got -0\.1"),
    ("damping", 9.0, r"path\.damping: path\.kind quantile has no damping"),
])  # fmt: skip
def test_settings_that_it_cannot_have_are_refused(key, value, message):
    with pytest.raises(ConfigError, match=message):
        parse({**SMALL, "path": {"kind": "quantile", key: value}})


def test_points_have_it_too(tmp_path):
    points = {
        **SMALL, "data": {"name": "grid9"}, "model": {"kind": "mlp", "channels": 8},
        "distill": {"kind": "pairs", "intervals": [1], "pairs": 20, "teacher_steps": 2, "steps": 3},
        "evaluation": {"samples": 64, "metrics": ["w2"], "diagnostics": []},
        "sweep": None, "sampling": {"model": "teacher", "steps": 2},
    }  # fmt: skip
    (trial,) = opening.make_plan(parse(points), "x.yaml").trials
    run_trial(trial, tmp_path)
    metrics = Store(tmp_path).result(trial.key).json("metrics.json")
    assert torch.tensor(metrics["w2"]).isfinite()
