"""Every path, network and distiller through the same training, sampling and scoring: each run for a
few steps."""

from pathlib import Path
from typing import Any

import pytest
import torch
from in_process import run_trial
from stages import own_keys

from kaccore.data import load
from orchestrator.plan.plan import Trial, alike, make
from orchestrator.settings.loading import parse
from orchestrator.store.store import Store
from orchestrator.work import evaluation

pytestmark = pytest.mark.usefixtures("quick_measures")
UNET = {"channels": 8, "multipliers": [1], "patch": 4}
BASE: dict[str, Any] = {
    "name": "rivals",
    "data": {"name": "digits"},
    "path": {"kind": "kac"},
    "model": UNET,
    "teacher": {"steps": 6, "batch_size": 8},
    "distill": {"intervals": [2, 1], "teacher_steps": 4, "steps": 4, "batch_size": 8},
    "sampling": {"steps": 1},
    "evaluation": {"samples": 24, "metrics": ["fid", "inception_score"]},
}
KINDS: dict[str, dict[str, dict[str, Any]]] = {
    **{f"{path} {kind}": {"path": {"kind": path}, "distill": {"kind": kind}}
       for path in ("kac", "diffusion", "flow_matching")
       for kind in ("endpoint", "progressive", "consistency", "flow_map", "matching")},
    "mean flow of the path": {"distill": {"kind": "flow_map", "form": "mean", "velocity": "path"}},
    "real images": {"distill": {"kind": "matching", "alpha": 0.9, "ratio": 1.02, "fake_steps": 3}},
    "variance preserving": {"path": {"kind": "diffusion", "schedule": "vp"}},
    "exponential signal": {"path": {"kind": "kac", "signal": "exponential"}},
    "dit": {"model": {"kind": "dit", "channels": 16, "depth": 2, "head_channels": 8, "patch": 4}},
    "mlp": {"model": {"kind": "mlp", "channels": 16, "depth": 2}},
    "plain u-net": {"model": {**UNET, "scale_shift": False, "resample": "conv", "attention_in": "adm"}},
    "endpoint target": {"distill": {"target": "endpoint"}},
    "pseudo-Huber": {"distill": {"huber": 0.03}},
    "pseudo-Huber progressive": {"distill": {"kind": "progressive", "huber": 0.03}},
    "pseudo-Huber consistency": {"distill": {"kind": "consistency", "huber": 0.03}},
    "not chained": {"distill": {"chained": False}},
    "from the teacher": {"distill": {"start": "teacher"}},
    "given grid": {"distill": {"times": [1.0, 0.6, 0.0]}},
    "renoised": {"distill": {"kind": "consistency"}, "sampling": {"steps": 3, "gamma": 0.5}},
    "shaped teacher on a given grid": {
        "sampling": {"model": "teacher", "steps": 3, "times": [1.0, 0.5, 0.2, 0.0], "shaping": 0.01, "solver": "ab2"},
    },
    "guided": {"distill": {"guidance": 1.5}},
    "guided teacher": {"sampling": {"model": "teacher", "guidance": 1.5}},
    "augmented": {"teacher": {"augment": 0.12}, "data": {"flip": True}},
    "in parts, half precision": {"teacher": {"accumulate": 2, "precision": "bfloat16"}},
    "restarted": {"teacher": {"restarts": 1}, "distill": {"restarts": 1}},
    "unlabelled": {"teacher": {"label_dropout": None}},
}  # fmt: skip


def planned(blocks: dict[str, dict[str, Any]]) -> Trial:
    config = {**BASE, **{name: {**BASE.get(name, {}), **block} for name, block in blocks.items()}}
    (trial,) = make(
        parse(own_keys(config)), alike(load("digits").fingerprint, "digits-cnn-v1")
    ).trials
    return trial


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One store for all: what they share is trained once."""
    evaluation.network.cache_clear()
    return tmp_path_factory.mktemp("rivals")


@pytest.mark.parametrize("kind", KINDS)
def test_it_is_trained_sampled_and_scored(kind, root):
    trial = planned(KINDS[kind])
    metrics, folder = run_trial(trial, root)
    sampling = trial.config.sampling
    assert metrics["nfe"] == sampling.steps * (2 if sampling.guidance != 1 else 1)
    assert metrics["fid"] > 0 and 1 <= metrics["inception_score"] <= 10
    assert metrics["fid_of_real"] > 0
    early = metrics["kinetic_path_energy_early"]
    late = metrics["kinetic_path_energy_late"]
    if not sampling.gamma:  # jumps that are noised again are longer than their share of the path
        assert early + late == pytest.approx(metrics["kinetic_path_energy"], rel=1e-4)
    assert metrics["largest_velocity"] > 0
    assert ("light_cone_violations" in metrics) == (trial.config.path.kind == "kac")
    assert 0 <= metrics["memorisation_fraction"] <= 1 and metrics["nearest_distance"] > 0
    assert (
        ("gap_at_ends" in metrics) == (sampling.model == "student") == (folder / "gap.png").exists()
    )
    assert (folder / "nearest.png").exists()


def test_a_student_starts_where_it_is_told_to(root):
    """Without training to speak of, what it started from is what it is."""
    still = {"steps": 1, "lr": 1e-12, "ema": 0.0}
    store, teacher = Store(root), {"lr": 1e-2}
    previous = planned({"teacher": teacher, "distill": {**still, "lr": [1e-2, 1e-12]}})
    original = planned(
        {"teacher": teacher, "distill": {**still, "lr": [1e-2, 1e-12], "start": "teacher"}}
    )
    for trial in (previous, original):
        run_trial(trial, root)

    def weights(stage: Any) -> dict[str, torch.Tensor]:
        return store.result(stage.key).tensors("model.safetensors")

    def equal(one: Any, other: Any) -> bool:
        return all(torch.allclose(v, weights(other)[k], atol=1e-9) for k, v in weights(one).items())

    first, second = previous.chain[1:]
    assert equal(second, first) and not equal(second, previous.chain[0])
    assert equal(original.chain[2], original.chain[0]) and not equal(
        original.chain[2], original.chain[1]
    )


def test_a_matching_student_is_stored_without_its_fake_field(root):
    trial = planned({"distill": {"kind": "matching"}})
    run_trial(trial, root)
    teacher, *_, student = (
        Store(root).result(s.key).tensors("model.safetensors") for s in trial.chain
    )
    assert teacher.keys() == student.keys()
