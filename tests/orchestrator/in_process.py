"""A trial's stages run in this process, as its workers and tasks would run them."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from stages import data_block

from kaccore.files import write_bytes
from orchestrator.methods.dataset_kind import DatasetKind
from orchestrator.plan.plan import Trial
from orchestrator.plan.stage import Stage
from orchestrator.store.leases import newest
from orchestrator.store.store import Store
from orchestrator.work import (
    diagnostics,
    evaluation,
    final_samples,
    pictures,
    point_metrics,
)
from orchestrator.work.batch_loss import Group
from orchestrator.work.evaluation import build_reference, sample_part, score, train_features
from orchestrator.work.job import FeatureWeights, Job, Saving
from orchestrator.work.worker import run_stage

ALONE = Group(rank=0, world=1, device=torch.device("cpu"))


@contextmanager
def quick_measures() -> Iterator[None]:
    """All that an evaluation measures is measured, by fewer samples: the gap of a student to its
    teacher, the interval of FID, the FID of real images, and the likelihood of points, which is
    integrated in fewer steps. With all of them they take most of the evaluation of a tiny network.
    The figure of the gap takes as long: it is drawn once with each set of curves, and copied for
    later evaluations. So is the last picture of a teacher and of a student."""
    drawn: dict[bool, bytes] = {}
    draw = pictures.save_gap

    def draw_once(path: Path, gap: Any) -> None:
        if (gap.w2 is None) not in drawn:
            draw(path, gap)
            drawn[gap.w2 is None] = path.read_bytes()
        write_bytes(path, drawn[gap.w2 is None])

    with last_pictures_once(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(diagnostics, "GAP_SAMPLES", 16)
        patch.setattr(diagnostics, "GAP_SUBSTEPS", 8)
        patch.setattr(evaluation, "RESAMPLES", 10)
        patch.setattr(evaluation, "REAL_SPLITS", 3)
        patch.setattr(point_metrics, "LIKELIHOOD_STEPS", 25)
        patch.setattr(pictures, "save_gap", draw_once)
        yield


@contextmanager
def last_pictures_once() -> Iterator[None]:
    """The picture at the end of a training is drawn for the first teacher and the first student, and
    others have the same: of a large network it takes longer than a few steps of training."""
    last: dict[str, bytes] = {}
    draw = final_samples.png

    def once(stage: Stage, model: Any, data: Any) -> bytes:
        if stage.kind not in last:
            last[stage.kind] = draw(stage, model, data)
        return last[stage.kind]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(final_samples, "png", once)
        yield


def measure_by(trial: Trial, root: Path) -> None:
    """Make what the trial is measured by, where it is not there yet."""
    for stage in trial.measured_by():
        if not Store(root).done(stage.key):
            make = {"features": train_features, "reference": build_reference}[stage.kind]
            make(stage, str(root), trial.config.data, FeatureWeights())


def train(chain: tuple[Stage, ...], data: DatasetKind | str, root: Path) -> None:
    """Train what `chain` lacks on `data`, which may be called by its name alone."""
    data = data_block(name=data) if isinstance(data, str) else data
    leases = tuple(newest(Store(root).root / "work" / stage.key) for stage in chain)
    job = Job(chain, leases, str(root), data, Saving(1000, 60.0, 2), threads=1, run="run")
    for stage in chain:
        run_stage(stage, job, ALONE)


def run_trial(trial: Trial, root: Path) -> tuple[dict[str, Any], Path]:
    """Train the trial's chain, sample it in two parts and score it: the metrics and the folder that
    has them."""
    store, data = Store(root), trial.config.data
    measure_by(trial, root)
    train(trial.chain, data, root)
    assert trial.evaluation is not None
    last, half = trial.evaluation, trial.config.evaluation.samples // 2
    parts = [
        sample_part(last, str(root), data, FeatureWeights(), 0, first, half) for first in (0, half)
    ]
    score(last, str(root), data, 0.0, *parts)
    result = store.result(last.key)
    return json.loads(result.path("metrics.json").read_text()), result.folder
