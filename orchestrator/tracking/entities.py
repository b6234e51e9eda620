"""What the store says, in MLflow's words: metrics, data set inputs and tags, made of manifests and
curves alone."""

import json
import math
from typing import TYPE_CHECKING, Any

from orchestrator.plan.data import DatasetInfo
from orchestrator.plan.stage import Stage
from orchestrator.store import layout
from orchestrator.store.layout import FIDS
from orchestrator.store.provenance import DIRTY, PACKAGES
from orchestrator.store.stage_result import Result
from orchestrator.sweeps.teacher_fids import FID_WHILE_TRAINING

if TYPE_CHECKING:
    from mlflow.entities import DatasetInput, Metric

COMMIT, CHANGED = "mlflow.source.git.commit", "git_dirty"  # MLflow's UI shows the first
MADE_BY = frozenset((COMMIT, CHANGED, *(f"{name}_version" for name in ("python", *PACKAGES))))
DIGEST = 36  # characters: what MLflow has room for; the whole fingerprint is in the profile


def begin_and_end(manifest: dict[str, Any]) -> tuple[int, int]:
    """When a stage was begun and ended, in MLflow's milliseconds."""
    end = int(manifest["finished"] * 1000)
    return end - int(manifest["seconds"] * 1000), end


def made_by_tags(made_by: dict[str, str]) -> dict[str, str]:
    """The tags, among MADE_BY, that say what made a result."""
    commit = made_by.get("commit", "")
    tags = {f"{name}_version": text for name, text in made_by.items() if name != "commit"}
    tags |= {COMMIT: commit.removesuffix(DIRTY)} if commit else {}
    return tags | ({CHANGED: "true"} if commit.endswith(DIRTY) else {})


def curves(stage: Stage, result: Result) -> "list[Metric]":
    """Loss and rate of a training by step, and `system/...`, what it took of its machine, each at
    its own time."""
    from mlflow.entities import Metric

    start, end = begin_and_end(result.manifest)
    found = []
    for p in result.json(layout.LOSSES):
        at = start + round((end - start) * p["step"] / stage.steps)
        found += [Metric(k, p[k], at, int(p["step"])) for k in ("loss", "lr")]
    if result.has(FIDS):
        found += scores(result.json(FIDS), start, end, stage.steps)
    for p in result.json(layout.SYSTEM) if result.has(layout.SYSTEM) else ():
        at = min(end, start + round(1000 * p["seconds"]))
        found += [
            Metric(f"system/{k}", v, at, int(p["step"]))
            for k, v in p.items()
            if k not in ("step", "seconds")
        ]
    return found


def scores(
    fids: list[dict[str, float]], start: int, end: int, steps: int | None = None
) -> "list[Metric]":
    """What a teacher scored while it trained for `steps`, by default up to the last score, from
    `start` to `end`."""
    from mlflow.entities import Metric

    last = steps or (fids[-1]["step"] if fids else 1)
    return [
        Metric(
            FID_WHILE_TRAINING,
            p["fid"],
            start + round((end - start) * p["step"] / last),
            int(p["step"]),
        )
        for p in fids
    ]


def dataset_input(data: DatasetInfo, context: str) -> "DatasetInput":
    """A data set as an input of a run, its classes by their names; `context`: what it was used
    for."""
    from mlflow.entities import Dataset, DatasetInput, InputTag

    source = {"tags": {"mlflow.source.name": f"kaccore.data.load({data.name!r})"}}
    schema: dict[str, Any] | None = None
    profile: dict[str, Any] = {"fingerprint": data.fingerprint}
    if data.count is not None and data.size is not None:
        shape = [data.count, data.channels, data.size, data.size]
        profile |= {
            "num_rows": shape[0],
            "num_elements": math.prod(shape),
            "shape": shape,
            "classes": data.classes,
        }
        profile |= {"class_names": list(data.class_names)} if data.classes else {}
        schema = {
            "mlflow_tensorspec": {
                "features": _tensor("float32" if data.points else "uint8", [-1, *shape[1:]]),
                "targets": _tensor("int64", [-1]) if data.classes else None,
            }
        }
    dataset = Dataset(
        data.name,
        data.fingerprint[:DIGEST],
        "code",
        json.dumps(source),
        schema=None if schema is None else json.dumps(schema),
        profile=json.dumps(profile, ensure_ascii=False),
    )
    return DatasetInput(dataset, [InputTag("mlflow.data.context", context)])


def _tensor(dtype: str, shape: list[int]) -> str:
    """MLflow's schema of one tensor, by itself: its own classes would have to import pandas."""
    return json.dumps([{"type": "tensor", "tensor-spec": {"dtype": dtype, "shape": shape}}])
