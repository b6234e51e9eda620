"""Samples images from a `network_folder`: the same as `orchestrator.sample` for the same settings."""

import json
import os
from pathlib import Path
from typing import Any

import torch

from kaccore.checkpoint import read_tensors
from kaccore.data import ImageData, PointData
from orchestrator.fields import faults, plugins
from orchestrator.plan import data
from orchestrator.plan.plan import teacher_stage
from orchestrator.plan.stage import Stage
from orchestrator.plan.students import students
from orchestrator.settings import loading, yaml_reader
from orchestrator.settings.blocks import Sampling
from orchestrator.settings.experiment import Experiment
from orchestrator.settings.loading import override
from orchestrator.store.network_folder import CONFIG, FACTS, WEIGHTS
from orchestrator.work import building
from orchestrator.work.drawing import draw, labels_for
from orchestrator.work.requests import RequestError, check_fields, number, whole

# the environment variable that lists the plugins which a served network may import
ALLOWED = "KACFLOW_PLUGINS"
ASKED = ("count", "seed", "steps", "labels")
MOST = 4096  # images per request: more would delay other requests too long


class NetworkSampler:
    """Samples images from the network in `folder`. Raises ValueError if another version of this
    project wrote it, which may build another network from the same configuration."""

    def __init__(self, folder: Path) -> None:
        facts = json.loads((folder / FACTS).read_text(encoding="utf-8"))
        self.config = _config(folder, facts.get("plugins", []))
        self.teacher = teacher_stage(self.config, facts["fingerprint"])
        self.stage = self._stage(self.config)
        if self.stage.key != facts["stage"]:
            raise ValueError(
                f"{folder}: another version of this project wrote it: expected stage {facts['stage']}"
            )
        self.data = _data(self.config, facts["data"])
        weights = read_tensors(folder / WEIGHTS, facts["sha256"])
        model = building.with_weights(self.stage, self.data, weights)
        self.model = model.to("cuda" if torch.cuda.is_available() else "cpu")

    def draw(self, request: dict[str, Any]) -> dict[str, Any]:
        """`images` (count, H, W, C) from 0 to 255, or `points` (count, 2), and their `nfe`. Raises
        RequestError.

        Fields of `request`: `count` (default 1); `seed` (default 0), image k of a seed is always the
        same; `steps` (default: the configuration's); `labels`, used in turn (default: the
        configuration's, else all classes)."""
        check_fields(request, ASKED)
        count = number(request, "count", 1, 1, MOST)
        seed = number(request, "seed", 0, 0, 2**63 - 1)
        setting = self._setting(request)
        wanted = setting.labels
        if wanted is None:
            wanted = tuple(range(self.data.classes))
        labels = labels_for(self.stage, wanted, self.data, seed, range(count))
        samples = draw(self.stage, setting, self.model, self.data, range(count), seed, labels)
        drawn = self.data.from_floats(samples.images)
        if isinstance(self.data, PointData):
            return {"points": drawn.flatten(1).tolist(), "nfe": samples.nfe}
        return {"images": drawn.permute(0, 2, 3, 1).tolist(), "nfe": samples.nfe}

    def _setting(self, request: dict[str, Any]) -> Sampling:
        """The sampling settings of a request, checked like a configuration."""
        values: dict[str, Any] = {}
        if request.get("steps") is not None:
            values["sampling.steps"] = self._steps(number(request, "steps", 1, 1, 2**31))
        if request.get("labels") is not None:
            labels = list(request["labels"])
            if not self.teacher.teacher_spec.labelled or not self.data.classes:
                raise RequestError(f"labels: got {labels}, but this network has no labels")
            last = self.data.classes - 1
            if not labels or not all(whole(label) and 0 <= label <= last for label in labels):
                raise RequestError(
                    f"labels: got {labels}, expected some of the classes 0 to {last}"
                )
            values["sampling.labels"] = [int(label) for label in labels]
        try:
            return override(self.config, values).sampling
        except faults.ConfigError as e:
            raise RequestError(str(e)) from None

    def _steps(self, steps: int) -> int:
        if self.stage is self.teacher:
            return steps
        by_steps = students(self.config, self.teacher)
        possible = [count for count, student in by_steps.items() if student == self.stage]
        if steps not in possible:
            expected = ", ".join(map(str, possible))
            if len(possible) > 1:
                expected = f"one of {expected}"
            raise RequestError(
                f"steps: got {steps}, but this is {self.stage.label}: expected {expected}"
            )
        return steps

    def _stage(self, sampled: Experiment) -> Stage:
        if sampled.sampling.model == "teacher":
            return self.teacher
        return students(sampled, self.teacher)[sampled.sampling.steps]


def _config(folder: Path, needed: list[str]) -> Experiment:
    """The configuration in `folder`. A plugin is imported, which runs its code, only if the
    environment lists it: the folder may come from someone else. Raises ValueError if it does not."""
    settings = yaml_reader.read(folder / CONFIG)
    allowed = [name for name in os.environ.get(ALLOWED, "").split(os.pathsep) if name]
    if needed and not allowed:
        what = f"{folder}: this network needs the plugin {', '.join(needed)}"
        raise ValueError(f"{what}: to run its code set {ALLOWED} to its module or .py file")
    return loading.parse({**settings, plugins.KEY: allowed if needed else []}, str(folder / CONFIG))


def _data(sampled: Experiment, sizes: dict[str, int]) -> ImageData:
    """The data that sampling needs: its shape and its classes, or, for a prior that contains training
    images, the whole data set, read with the configuration's settings."""
    if sampled.path.starts_from_data:
        return data.images(sampled.data)
    points = sampled.data.facts.points
    kind, dtype = (PointData, torch.float32) if points else (ImageData, torch.uint8)
    none = torch.zeros(0, sizes["channels"], sizes["size"], sizes["size"], dtype=dtype)
    names = tuple(map(str, range(sizes["classes"])))
    labels = torch.zeros(0, dtype=torch.int64) if names else None
    return kind(sampled.data.name, none, labels, names)
