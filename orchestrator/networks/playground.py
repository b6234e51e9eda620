"""The playground without HTTP: the settings that one run's networks offer, and the images for a
request.

The images are those of `orchestrator.sample` with the same settings; the answer has that command.
"""

import base64
import csv
import io
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from torch import Tensor, nn

from kaccore.data import PointData
from kaccore.sampling import Samples
from kaccore.solvers import SOLVERS
from orchestrator.fields.faults import ConfigError
from orchestrator.host.printed import command
from orchestrator.networks import sampling_choice
from orchestrator.networks.locate import TrainedRun
from orchestrator.settings.experiment import Experiment
from orchestrator.work import building, pictures
from orchestrator.work.drawing import device, draw, labels_for
from orchestrator.work.marks import marked
from orchestrator.work.requests import RequestError, check_fields, number

FIELDS = ("model", "steps", "solver", "guidance", "labels", "seed", "count")
# images of a request, by default and at most: more would make the page wait too long
COUNT = 16
MOST = 256
MOST_STEPS = 1000  # of the teacher, for the same reason


class Playground:
    """The networks of `run`, each loaded at its first request.

    `begin` has the initial settings of the page; `arguments` are those by which a command names
    `run`."""

    def __init__(self, run: TrainedRun, begin: Experiment, arguments: Sequence[str]) -> None:
        absolute = replace(run.trial, config=run.config.absolute())
        self.run = replace(run, trial=absolute)
        self.begin = begin.sampling
        self.arguments = list(arguments)
        self.data = self.run.data()
        self.teacher = run.teacher
        # by stage key, and by decay if it is a further average of the weights
        self.loaded: dict[tuple[str, float | None], nn.Module] = {}
        self.points = isinstance(self.data, PointData)
        self.count = MOST if self.points else COUNT  # a few points show nothing
        self.labelled = labels_for(self.teacher, None, self.data, 0, range(1)) is not None

    def choices(self) -> dict[str, Any]:
        """The settings that the page offers, and the initial ones, as plain values."""
        begin, labels = self.begin, self.run.config.sampling.labels
        defaults = [labels] if isinstance(labels, int) else labels or []
        names = self.data.class_names if self.labelled else ()
        default_labels = "as in the data"
        if defaults:
            default_labels = f"as in the run: {', '.join(names[k] for k in defaults)}"
        initial = {
            "model": begin.model,
            "steps": begin.steps,
            "solver": begin.solver,
            "guidance": begin.guidance,
        }
        return {
            "name": self.arguments[0],
            "origin": self.run.origin,
            "size": self.data.size,
            "points": self.points,
            "networks": self._networks(),
            "classes": list(names),
            "default_labels": default_labels,
            "most": MOST,
            "begin": {**initial, "labels": [], "seed": 0, "count": self.count},
        }

    def draw(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """The images of a request as PNG files in base64, for points one scatter plot; their class
        names, NFE, seconds an image, the network's name, and the command that draws the same.

        Raises RequestError and ConfigError for settings that cannot be sampled.
        """
        check_fields(request, FIELDS)
        count = number(request, "count", self.count, 1, MOST)
        seed = number(request, "seed", 0, 0, 2**63 - 1)
        given = {**self._network(request), "labels": self._numbers(request.get("labels"))}
        config = sampling_choice.with_sampling(self.run, given)
        stage = sampling_choice.stage_to_sample(self.run, config)
        sampling_choice.check_classes(self.run, config, self.data)
        setting = config.sampling
        labels = labels_for(stage, setting.labels, self.data, seed, range(count))
        chosen = (stage.key, stage.average(setting.ema))
        if chosen not in self.loaded:
            network = building.trained(self.run.store, stage, self.data, setting.ema)
            self.loaded[chosen] = network.to(device())
        model = self.loaded[chosen]
        began = time.perf_counter()
        samples = draw(stage, setting, model, self.data, range(count), seed, labels)
        seconds = time.perf_counter() - began
        return {
            "images": [base64.b64encode(file).decode() for file in self._files(samples)],
            "classes": [] if labels is None else [self.data.class_names[k] for k in labels],
            "nfe": samples.nfe,
            "seconds_per_image": seconds / count,
            "network": self.run.stage_name(stage),
            "command": self._command({**given, "seed": seed, "count": count}),
        }

    def _network(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """The settings of a request that choose the network and its sampler. Missing ones are the
        initial settings of the page; if only the number of steps is given, the network is chosen as
        for every command."""
        steps = number(request, "steps", self.begin.steps, 1, MOST_STEPS)
        solver, guidance, model = (request.get(name) for name in ("solver", "guidance", "model"))
        if not model:
            model = self.begin.model
            if request.get("steps") is not None:
                model = self.run.choose_network(steps, solver, guidance)
        return {"model": model, "steps": steps, "solver": solver, "guidance": guidance}

    def _numbers(self, labels: Any) -> Any:
        """Labels with each class name replaced by its number."""
        if isinstance(labels, list):
            return [self._numbers(label) for label in labels]
        if not isinstance(labels, str):
            return labels
        try:
            return sampling_choice.class_number(self.run.trial.facts.data, labels)
        except ConfigError as e:
            raise RequestError(f"labels: {e.faults[0].message}") from None

    def _networks(self) -> dict[str, dict[str, Any]]:
        """The trained ones of teacher and student: their step counts (None: any), the other settings
        that they take, and the initial ones."""
        config, done = self.run.config, self.run.store.done
        networks: dict[str, dict[str, Any]] = {}
        counts = [n for n, student in self.run.trial.students.items() if done(student.key)]
        if done(self.teacher.key):
            own = config.sampling if config.sampling.model == "teacher" else None
            networks["teacher"] = {
                "steps": [own.steps] if own and own.times else None,
                "begin": own.steps if own else config.distill.intervals[0],
                "solvers": list(SOLVERS),
                "solver": own.solver if own else config.distill.solver(),
                "guided": bool(self.labelled and config.teacher.label_dropout),
            }
        if counts:
            networks["student"] = {
                "steps": sorted(counts),
                "begin": max(counts),
                "solvers": [],
                "guided": False,
                "built_in": config.distill.guidance,
            }
        return networks

    def _files(self, samples: Samples) -> list[bytes]:
        images: Tensor = self.data.from_floats(samples.images)
        if isinstance(self.data, PointData):  # as `sample` writes it
            return [marked(pictures.scatter_png(images.flatten(1), self.data.points))]
        return [pictures.png(image) for image in images]

    def _command(self, given: Mapping[str, Any]) -> str:
        texts = {name: given[name] for name in FIELDS if given[name] is not None}
        if "labels" in texts:
            labels = texts["labels"] if isinstance(texts["labels"], list) else [texts["labels"]]
            texts["labels"] = _csv_row([self.data.class_names[k] for k in labels])
        options = [part for name, value in texts.items() for part in (f"--{name}", str(value))]
        return command("sample", *self.arguments, *options, "--out", "grid.png")


def _csv_row(names: Sequence[str]) -> str:
    """Names as one CSV row, the format of `sample --labels`."""
    text = io.StringIO()
    csv.writer(text, lineterminator="").writerow(names)
    return text.getvalue()
