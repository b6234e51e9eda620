"""A sweep's store as if everything had been run: reports are made of it in no time."""

import io
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from kaccore.files import write_bytes, write_json
from orchestrator.plan.plan import Plan, Trial, alike, make
from orchestrator.plan.stage import TRAINING, Stage
from orchestrator.settings.loading import parse
from orchestrator.store import layout
from orchestrator.store.store import Store
from orchestrator.sweeps.records import Records

Measure = Callable[[Trial], dict[str, Any]]


def plan(
    space: dict[str, Any] | None = None, metric: str = "fid", goal: str = "sweep", **blocks: Any
) -> Plan:
    """The plan of a sweep over `space`, key for key as a file has it; without one a single run."""
    config = {
        "name": "made",
        "data": {"name": "digits"},
        "path": {"kind": "kac"},
        "sampling": {"model": "teacher"},
    }
    swept = {k: v if isinstance(v, dict) else {"grid": v} for k, v in (space or {}).items()}
    sweep = (
        {"sweep": {"metric": metric, "space": swept, **blocks.pop("sweep", {})}} if swept else {}
    )
    features = "points" if metric == "w2" else "digits-cnn-v1"
    return make(parse({**config, **blocks, **sweep}), alike("fingerprint", features), goal)


def measured(trial: Trial) -> dict[str, Any]:
    """FID 8 / NFE, and all else that an evaluation says beside it."""
    nfe = trial.config.sampling.steps
    return {"fid": 8.0 / nfe, "kid": 0.01 / nfe, "fid_features": "digits-cnn-v1", "nfe": nfe,
            "seconds_per_image": 0.001 * nfe, "kinetic_path_energy": 10.0 + nfe, "samples": 64}  # fmt: skip


def said_by(values: dict[int, dict[str, Any]]) -> Measure:
    """What `measured` says, with other values for the trials of these indices."""
    return lambda trial: measured(trial) | values.get(trial.index, {})


def made(
    root: Path, planned: Plan, measure: Measure = measured, without: Iterable[int] = ()
) -> Records:
    """The records of `planned` with every stage in the store, but for the evaluations of the trials
    `without`."""
    records = Records(planned, Store(root))
    records.open()
    left = {planned.trials[i].key for i in without}
    for trial in planned.trials:
        for stage in trial.stages():
            if stage.key not in left and not records.store.done(stage.key):
                _finish(records.store, stage, trial, measure)
    records.read_endings()
    return records


def _finish(store: Store, stage: Stage, trial: Trial, measure: Measure) -> None:
    folder = store.gather(stage)
    if stage.kind in TRAINING:
        write_json(
            folder / "losses.json",
            [{"step": s, "loss": 1.0 / s, "lr": 0.001} for s in range(1, 201)],
        )
    if stage.kind == "evaluation":
        values = measure(trial)
        resampled = values.pop("bootstrap", None)
        if resampled is not None:
            write_json(folder / layout.BOOTSTRAP, resampled)
        write_json(folder / "metrics.json", values)
        points = trial.config.data.name == "grid9"
        drawn = (
            {"points": np.zeros((100, 2))} if points else {"images": samples(trial.config.seed, 8)}
        )
        file = io.BytesIO()
        np.savez_compressed(file, **drawn)
        write_bytes(folder / "samples.npz", file.getvalue())
        Image.new("L", (100, 100)).save(folder / "samples.png")
    store.publish(stage, folder, 1.0)


def samples(seed: int, side: int) -> np.ndarray:
    """64 gray images, (N, H, W, 1)."""
    return np.random.default_rng(seed).integers(0, 256, (64, side, side, 1), dtype=np.uint8)
