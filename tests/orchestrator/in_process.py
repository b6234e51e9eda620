"""A trial's stages run in this process, as its workers and tasks would run them."""

import json
from pathlib import Path
from typing import Any

import torch

from orchestrator.config import Data
from orchestrator.evaluation import build_reference, sample_part, score
from orchestrator.graph import Stage
from orchestrator.job import FeatureWeights, Job, Saving
from orchestrator.plan import Trial
from orchestrator.store import Store
from orchestrator.workers import Group, run_training_stage

ALONE = Group(rank=0, world=1, device=torch.device("cpu"))


def train(chain: tuple[Stage, ...], name: str, root: Path) -> None:
    """Train what `chain` lacks on the data set called `name`."""
    job = Job(chain, (0,) * len(chain), str(root), Data(name=name), Saving(1000, 60.0, 2), threads=1, run="run")
    for stage in chain:
        run_training_stage(stage, job, ALONE)


def run_trial(trial: Trial, root: Path) -> tuple[dict[str, Any], Path]:
    """Train the trial's chain, sample it in two parts and score it: the metrics and the folder that has them."""
    store, data = Store(root), Data(name=trial.config.data.name)
    train(trial.chain, data.name, root)
    assert trial.reference is not None and trial.evaluation is not None
    if not store.done(trial.reference.key):
        build_reference(trial.reference, str(root), data, FeatureWeights())
    last, half = trial.evaluation, trial.config.evaluation.samples // 2
    parts = [sample_part(last, str(root), data, FeatureWeights(), 0, first, half) for first in (0, half)]
    score(last, str(root), data, 0.0, *parts)
    result = store.result(last.key)
    return json.loads(result.path("metrics.json").read_text()), result.folder
