"""A finished sweep whose networks were never trained: what publishing and serving need, in a
second."""

import json
from pathlib import Path
from typing import Any

import torch
from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion
from stages import own_keys

from kaccore.checkpoint import write_tensors
from kaccore.data import ImageData, load
from orchestrator.plan import data as dataset_info
from orchestrator.plan.plan import Plan, Trial
from orchestrator.plan.stage import Stage
from orchestrator.settings import loading
from orchestrator.settings.experiment import Experiment
from orchestrator.store.layout import ABOUT
from orchestrator.store.store import Store
from orchestrator.sweeps import opening
from orchestrator.sweeps.records import Records
from orchestrator.tracking.publisher import Publisher
from orchestrator.tracking.uri import tracking_uri
from orchestrator.work import building

FID = {
    ("teacher", 2): 1.0,
    ("student", 1): 2.0,
    ("student", 2): 3.0,
}  # the teacher is best, then the one-step student
POINTS = [
    {"step": 7, "seconds": 10.0, "cpu_percent": 98.5, "memory_mb": 400.0},
    {"step": 20, "seconds": 30.0, "cpu_percent": 99.5, "memory_mb": 410.0},
]
SECONDS = 30.0


def experiment(name: str = "fabricated", **settings: Any) -> Experiment:
    """A teacher and its students of 2 steps and 1, each an own trial."""
    base = {
        "name": name,
        "data": {"name": "digits"},
        "path": {"kind": "kac"},
        "model": {"channels": 8, "multipliers": [1], "patch": 4},
        "teacher": {"steps": 20, "batch_size": 16},
        "distill": {"intervals": [2, 1], "teacher_steps": 4, "steps": 20, "batch_size": 16},
        "sampling": {"model": "student", "steps": 1},
        "evaluation": {"samples": 40, "metrics": ["fid"]},
        "sweep": {"space": {"sampling.model": {"grid": ["teacher", "student"]}, "sampling.steps": {"grid": [1, 2]}},
                  "constraints": ["sampling.model == 'student' or sampling.steps == 2"]},
    }  # fmt: skip
    return loading.parse(own_keys({**base, **settings}))


def sweep(root: Path, asked: Experiment | None = None) -> Records:
    """The opened records of a sweep all of whose stages lie in the store under `root`."""
    records = Records(opening.make_plan(asked or experiment(), "fabricated"), Store(root))
    records.open()
    given = (
        None
        if records.plan.experiment.data.facts.packaged
        else dataset_info.images(records.plan.experiment.data)
    )
    for stage in records.plan.stages():
        if not records.store.done(stage.key):
            finish(records.store, stage, given)
    records.read_endings()
    records.save()
    return records


def opened(root: Path, plan: Plan) -> Records:
    """The records of the finished sweep of `plan` in a copy of its store under `root`."""
    records = Records(plan, Store(root))
    records.read_endings()
    return records


def chain(root: Path, goal: str = "sweep", **settings: Any) -> Trial:
    """The one trial, up to `goal`, of an experiment with these settings. Its networks lie in its
    storage, `root`/runs unless that is set too, with nothing else; its file is `root`/x.yaml."""
    asked = experiment(**{"sweep": None, "storage": str(root / "runs"), **settings})
    trial = opening.make_plan(asked, "fabricated", goal).trials[0]
    store = Store(asked.storage)
    data = dataset_info.images(asked.data)
    for stage in trial.chain:
        finish(store, stage, data)
    (root / "x.yaml").write_text(asked.to_yaml())
    return trial


def finish(store: Store, stage: Stage, data: ImageData | None = None) -> None:
    """Put a result of `stage` into the store; its `data` comes with a package where it is not
    given."""
    folder = store.gather(stage)
    teacher = None if stage.kind in ("features", "reference") else stage.lineage()[0]
    data = data or load("digits" if teacher is None else teacher.content["data"]["name"])
    (folder / "samples.png").write_bytes(b"")
    if stage.kind in ("teacher", "student"):
        assert teacher is not None
        model = building.network(
            teacher, data, two_times=stage.content.get("distiller") == "consistency"
        )
        torch.manual_seed(int(stage.key[:6], 16))
        noisy = {k: v + 0.05 * torch.randn_like(v) for k, v in model.state_dict().items()}
        write_tensors(folder / "model.safetensors", noisy)
        (folder / "losses.json").write_text(
            json.dumps([{"step": s, "loss": 1 / s, "lr": 0.1} for s in (10, 20)])
        )
        (folder / "system.json").write_text(json.dumps(POINTS))
    elif stage.kind == "features":
        (folder / ABOUT).write_text(json.dumps({"text": "own features, held-out accuracy 0.9"}))
    elif stage.kind == "evaluation":
        trained = stage.parents[0]
        fid = FID[trained.kind, stage.content["sampling"]["steps"]]
        measured = {
            "fid": fid,
            "fid_features": "digits-cnn-v1",
            "nfe": stage.content["sampling"]["steps"],
        }
        (folder / "metrics.json").write_text(json.dumps(measured))
    store.publish(
        stage,
        folder,
        SECONDS,
        dataset_info.sizes(data) if stage.kind in ("teacher", "student") else None,
    )


def publish(records: Records, status: str = "FINISHED") -> None:
    """Publish as a sweep that ends with `status` does."""
    publisher = Publisher(records)
    publisher.finish(status)
    assert publisher.problem == ""


def client_of(records: Records) -> MlflowClient:
    """A client of the store's own database."""
    return MlflowClient(tracking_uri(None, records.store.root))


def versions(records: Records) -> list[ModelVersion]:
    """What is registered of the experiment."""
    name = records.plan.experiment.name
    return list(client_of(records).search_model_versions(f"name = '{name}'"))
