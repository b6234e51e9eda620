"""The store's results as MLflow entities: metrics, data set inputs and tags, from manifests and
curves alone."""

import json
import math
from typing import TYPE_CHECKING, Any

from orchestrator.plan.data import DatasetInfo
from orchestrator.plan.plan import Trial
from orchestrator.plan.stage import Stage
from orchestrator.store import layout
from orchestrator.store.layout import FIDS
from orchestrator.store.provenance import DIRTY, PACKAGES
from orchestrator.store.stage_result import Result
from orchestrator.sweeps.records import Records
from orchestrator.sweeps.training_fids import FID_WHILE_TRAINING

if TYPE_CHECKING:
    from mlflow.entities import DatasetInput, Metric

COMMIT, CHANGED = "mlflow.source.git.commit", "git_dirty"  # MLflow's UI shows the first
MADE_BY = frozenset((COMMIT, CHANGED, *(f"{name}_version" for name in ("python", *PACKAGES))))
AGGREGATE = "aggregate"  # the tag `kind` of a run that has the means over seeds
DIGEST = 36  # characters, MLflow's limit; the profile has the whole fingerprint


def begin_and_end_ms(manifest: dict[str, Any]) -> tuple[int, int]:
    """Begin and end of a stage, in milliseconds since 1970, as MLflow has them."""
    end = int(manifest["finished"] * 1000)
    return end - int(manifest["seconds"] * 1000), end


def made_by_tags(made_by: dict[str, str]) -> dict[str, str]:
    """The tags, among MADE_BY, that name the versions and the commit that made a result."""
    commit = made_by.get("commit", "")
    tags = {f"{name}_version": text for name, text in made_by.items() if name != "commit"}
    tags |= {COMMIT: commit.removesuffix(DIRTY)} if commit else {}
    return tags | ({CHANGED: "true"} if commit.endswith(DIRTY) else {})


def curve_metrics(stage: Stage, result: Result) -> "list[Metric]":
    """Loss and learning rate of a training by step, and `system/...`, the resources that it used,
    each with its own time."""
    from mlflow.entities import Metric

    start, end = begin_and_end_ms(result.manifest)
    metrics = []
    for point in result.json(layout.LOSSES):
        time = start + round((end - start) * point["step"] / stage.steps)
        metrics += [Metric(k, point[k], time, int(point["step"])) for k in ("loss", "lr")]
    if result.has(FIDS):
        metrics += fid_metrics(result.json(FIDS), start, end, stage.steps)
    for point in result.json(layout.SYSTEM) if result.has(layout.SYSTEM) else ():
        time = min(end, start + round(1000 * point["seconds"]))
        metrics += [
            Metric(f"system/{k}", v, time, int(point["step"]))
            for k, v in point.items()
            if k not in ("step", "seconds")
        ]
    return metrics


def fid_metrics(
    fids: list[dict[str, float]],
    start: int,
    end: int,
    steps: int | None = None,
    name: str = FID_WHILE_TRAINING,
) -> "list[Metric]":
    """The FIDs of a network during its training, which took `steps` (by default up to the last
    FID) from `start` to `end` (ms)."""
    from mlflow.entities import Metric

    last = steps or (fids[-1]["step"] if fids else 1)
    metrics = []
    for point in fids:
        time = start + round((end - start) * point["step"] / last)
        metrics.append(Metric(name, point["fid"], time, int(point["step"])))
    return metrics


def dataset_input(data: DatasetInfo, context: str) -> "DatasetInput":
    """A data set as an input of a run, with its class names; `context`: what it was used for."""
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


def comparability_tags(records: Records, trial: Trial) -> dict[str, str]:
    """The tags that are equal for trials whose numbers compare: `data`, the name of the data set
    and 8 digits of its fingerprint, and for a measured trial `fid_features`, and
    `fid_second_features` where it has them."""
    data, measured = trial.facts.data, records.measured(trial)
    tags = {"data": f"{data.name} {data.fingerprint[:8]}"}
    names = ("fid_features", "fid_second_features")
    return tags | {name: str(measured[name]) for name in names if name in measured}


def _tensor(dtype: str, shape: list[int]) -> str:
    """MLflow's schema of one tensor as JSON; MLflow's own classes would import pandas."""
    return json.dumps([{"type": "tensor", "tensor-spec": {"dtype": dtype, "shape": shape}}])
