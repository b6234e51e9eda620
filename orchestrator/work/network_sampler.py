"""Images drawn from a `network_folder`: what `orchestrator.sample` draws for the same numbers."""

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
from orchestrator.work.evaluation import draw, labels_for
from orchestrator.work.requests import RequestError, check_fields, number, whole

# the environment variable that names the plugins which a served network may import
ALLOWED = "KACFLOW_PLUGINS"
ASKED = ("count", "seed", "steps", "labels")
MOST = 4096  # images of one request: more would hold up everybody else's


class NetworkSampler:
    """Draws images from the network in such a folder. Raises ValueError where it was written by
    another version of this project, which may build another network from the same configuration."""

    def __init__(self, folder: Path) -> None:
        facts = json.loads((folder / FACTS).read_text(encoding="utf-8"))
        self.config = _config(folder, facts.get("plugins", []))
        self.teacher = teacher_stage(self.config, facts["fingerprint"])
        self.stage = self._stage(self.config)
        if self.stage.key != facts["stage"]:
            raise ValueError(
                f"{folder}: written by another version of this project: expected stage {facts['stage']}"
            )
        self.data = _data(self.config, facts["data"])
        weights = read_tensors(folder / WEIGHTS, facts["sha256"])
        model = building.with_weights(self.stage, self.data, weights)
        self.model = model.to("cuda" if torch.cuda.is_available() else "cpu")

    def draw(self, request: dict[str, Any]) -> dict[str, Any]:
        """`images`, `count` (1) of them, (count, H, W, C) in 0 to 255, or `points` (count, 2), and
        their `nfe`; image k of a `seed` (0) is always the same. `steps` and `labels`, which are
        taken in turn, are by default the configuration's, labels else 0, 1, 2 ... Raises
        RequestError."""
        check_fields(request, ASKED)
        count, seed = number(request, "count", 1, 1, MOST), number(request, "seed", 0, 0, 2**63 - 1)
        setting = self._setting(request)
        wanted = setting.labels if setting.labels is not None else list(range(self.data.classes))
        labels = labels_for(self.stage, wanted, self.data, seed, range(count))
        samples = draw(self.stage, setting, self.model, self.data, range(count), seed, labels)
        drawn = self.data.from_floats(samples.images)
        if isinstance(self.data, PointData):
            return {"points": drawn.flatten(1).tolist(), "nfe": samples.nfe}
        return {"images": drawn.permute(0, 2, 3, 1).tolist(), "nfe": samples.nfe}

    def _setting(self, request: dict[str, Any]) -> Sampling:
        """The sampling settings that a request means, checked as a configuration is."""
        values: dict[str, Any] = {}
        if request.get("steps") is not None:
            values["sampling.steps"] = self._steps(number(request, "steps", 1, 1, 2**31))
        if request.get("labels") is not None:
            labels = list(request["labels"])
            if not self.teacher.teacher_spec.labelled or not self.data.classes:
                raise RequestError(f"labels: got {labels}, but this network knows none")
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
        possible = [
            n for n, student in students(self.config, self.teacher).items() if student == self.stage
        ]
        if steps not in possible:
            there = (
                str(possible[0])
                if len(possible) == 1
                else f"one of {', '.join(map(str, possible))}"
            )
            raise RequestError(
                f"steps: got {steps}, but this is {self.stage.label}: expected {there}"
            )
        return steps

    def _stage(self, sampled: Experiment) -> Stage:
        if sampled.sampling.model == "teacher":
            return self.teacher
        return students(sampled, self.teacher)[sampled.sampling.steps]


def _config(folder: Path, needed: list[str]) -> Experiment:
    """The configuration in `folder`. A plugin is imported, and so its code run, only where the
    environment names it: the folder may be somebody else's. Raises ValueError where it does not."""
    settings = yaml_reader.read(folder / CONFIG)
    allowed = [name for name in os.environ.get(ALLOWED, "").split(os.pathsep) if name]
    if needed and not allowed:
        what = f"{folder}: this network needs the plugin {', '.join(needed)}"
        raise ValueError(f"{what}: to run its code set {ALLOWED} to its module or .py file")
    return loading.parse({**settings, plugins.KEY: allowed if needed else []}, str(folder / CONFIG))


def _data(sampled: Experiment, sizes: dict[str, int]) -> ImageData:
    """What sampling has to know of the data: its shape and how many classes there are, or, for a
    prior that starts from noised data, all of it, from where the configuration says that it
    lies."""
    if sampled.path.starts_from_data:
        return data.images(sampled.data)
    points = sampled.data.facts.points
    kind, dtype = (PointData, torch.float32) if points else (ImageData, torch.uint8)
    none = torch.zeros(0, sizes["channels"], sizes["size"], sizes["size"], dtype=dtype)
    names = tuple(map(str, range(sizes["classes"])))
    return kind(
        sampled.data.name, none, torch.zeros(0, dtype=torch.int64) if names else None, names
    )
