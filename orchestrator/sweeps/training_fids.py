"""The FIDs of a trial's networks during their training, and their samples then, read from the store
for early stopping, MLflow, plots and the report."""

import json
from fnmatch import fnmatch

from orchestrator.store import layout
from orchestrator.store.layout import FIDS
from orchestrator.store.stage_result import Result
from orchestrator.store.store import Store

FID_WHILE_TRAINING = "fid_while_training"
STUDENTS_FID = "fid_of_student_while_training"  # in a trial's run, beside its teacher's
NETWORK = "network"  # which of a trial's networks a report is about
STD_WHILE_TRAINING = "fid_while_training_std"  # of resampled images


def fids(store: Store, key: str) -> list[dict[str, float]]:
    """The FIDs so far of the network `key`: `step` and `fid`, by step."""
    try:
        if store.done(key):
            return store.result(key).json(FIDS)
        return json.loads((store.root / layout.WORK / key / FIDS).read_text())
    except (OSError, ValueError, KeyError):
        return []


def look_steps(store: Store, key: str) -> list[int]:
    """The steps after which samples of the network `key` were kept, in order. Raises DamagedError
    where its manifest cannot be read."""
    try:
        names = looks(store.result(key))
    except (KeyError, FileNotFoundError):  # it is being trained
        names = [p.name for p in (store.root / layout.WORK / key).find(layout.LOOKS)]
    return sorted(map(layout.step_of_look, names))


def looks(result: Result) -> list[str]:
    """The files with samples during its training of a finished network."""
    return sorted(name for name in result.manifest["files"] if fnmatch(name, layout.LOOKS))


def look_picture(store: Store, key: str, step: int) -> bytes | None:
    """The samples of the network `key` after `step`, a PNG file; None where it has been removed.
    Raises DamagedError where it is damaged."""
    name = layout.look(step)
    try:
        if store.done(key):
            return store.result(key).content(name)
        return (store.root / layout.WORK / key / name).read_bytes()
    except (KeyError, FileNotFoundError):
        return None
