"""What a trial's teacher scores while it trains: read from the store by whoever stops, tracks or
draws it."""

import json

from orchestrator.plan.plan import Trial
from orchestrator.store import layout
from orchestrator.store.layout import FIDS
from orchestrator.store.store import Store

FID_WHILE_TRAINING = "fid_while_training"


def fids(store: Store, trial: Trial) -> list[dict[str, float]]:
    """What a trial's teacher has scored so far: `step` and `fid`, in order."""
    key = trial.chain[0].key
    try:
        if store.done(key):
            return store.result(key).json(FIDS)
        return json.loads((store.root / layout.WORK / key / FIDS).read_text())
    except (OSError, ValueError, KeyError):
        return []
