"""The FIDs of a trial's teacher during its training, read from the store for early stopping, MLflow
and plots."""

import json

from orchestrator.plan.plan import Trial
from orchestrator.store import layout
from orchestrator.store.layout import FIDS
from orchestrator.store.store import Store

FID_WHILE_TRAINING = "fid_while_training"
STD_WHILE_TRAINING = "fid_while_training_std"  # of resampled images


def fids(store: Store, trial: Trial) -> list[dict[str, float]]:
    """The FIDs of a trial's teacher so far: `step` and `fid`, by step."""
    key = trial.chain[0].key
    try:
        if store.done(key):
            return store.result(key).json(FIDS)
        return json.loads((store.root / layout.WORK / key / FIDS).read_text())
    except (OSError, ValueError, KeyError):
        return []
