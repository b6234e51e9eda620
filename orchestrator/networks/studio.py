"""What may be asked of the networks of one run, and the images that they answer with: all of the
playground but HTTP.

It draws what `orchestrator.sample` draws for the same settings, and says by which command.
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
from orchestrator.work.evaluation import device, draw, labels_for
from orchestrator.work.marks import marked
from orchestrator.work.requests import RequestError, check_fields, number

ASKED = ("model", "steps", "solver", "guidance", "labels", "seed", "count")
# images of a request unless it says so, and at most: more would keep the page waiting
COUNT = 16
MOST = 256
MOST_STEPS = 1000  # of the teacher, for the same reason


class Studio:
    """The networks of `source`, each read when it is first asked for.

    `begin` is what the page begins with; `found` are the arguments by which a command finds
    `source`."""

    def __init__(self, source: TrainedRun, begin: Experiment, found: Sequence[str]) -> None:
        placed = replace(source.trial, config=source.config.absolute())
        self.source = replace(source, trial=placed)
        self.begin = begin.sampling
        self.found = list(found)
        self.data = self.source.data()
        self.teacher, self.read = source.teacher, dict[str, nn.Module]()
        self.points = isinstance(self.data, PointData)
        self.count = MOST if self.points else COUNT  # few points show nothing
        self.labelled = labels_for(self.teacher, None, self.data, 0, range(1)) is not None

    def choices(self) -> dict[str, Any]:
        """What there is to choose from, and what to begin with, as plain values."""
        begin, usual = self.begin, self.source.config.sampling.labels
        turns = [usual] if isinstance(usual, int) else usual or []
        names = self.data.class_names if self.labelled else ()
        started = {
            "model": begin.model,
            "steps": begin.steps,
            "solver": begin.solver,
            "guidance": begin.guidance,
        }
        return {
            "name": self.found[0],
            "origin": self.source.origin,
            "size": self.data.size,
            "points": self.points,
            "networks": self._networks(),
            "classes": list(names),
            "unasked": f"as the run has them: {', '.join(names[k] for k in turns)}"
            if turns
            else "as in the data",
            "most": MOST,
            "begin": {**started, "labels": [], "seed": 0, "count": self.count},
        }

    def draw(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """The images of a request as PNG files in base64, for points one scatter of them; their
        classes' names, NFE, seconds an image, the network's name, and the command that draws the
        same.

        Raises RequestError and ConfigError, which say what cannot be had.
        """
        check_fields(request, ASKED)
        count, seed = (
            number(request, "count", self.count, 1, MOST),
            number(request, "seed", 0, 0, 2**63 - 1),
        )
        given = {**self._network(request), "labels": self._numbers(request.get("labels"))}
        config = sampling_choice.settled(self.source, given)
        stage = sampling_choice.pick(self.source, config)
        sampling_choice.check_classes(self.source, config, self.data)
        setting = config.sampling
        labels = labels_for(stage, setting.labels, self.data, seed, range(count))
        if stage.key not in self.read:
            self.read[stage.key] = building.trained(self.source.store, stage, self.data).to(
                device()
            )
        model = self.read[stage.key]
        began = time.perf_counter()
        samples = draw(stage, setting, model, self.data, range(count), seed, labels)
        seconds = time.perf_counter() - began
        return {
            "images": [base64.b64encode(file).decode() for file in self._files(samples)],
            "classes": [] if labels is None else [self.data.class_names[k] for k in labels],
            "nfe": samples.nfe,
            "seconds_per_image": seconds / count,
            "network": self.source.called(stage),
            "command": self._command({**given, "seed": seed, "count": count}),
        }

    def _network(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """The settings by which a request says which network is to be sampled, and how: what it
        leaves out is as the page begins, and, where it says how many steps alone, as for every
        command."""
        steps = number(request, "steps", self.begin.steps, 1, MOST_STEPS)
        solver, guidance, model = (request.get(name) for name in ("solver", "guidance", "model"))
        by_steps = request.get("steps") is not None
        usual = self.source.network(steps, solver, guidance) if by_steps else self.begin.model
        return {"model": model or usual, "steps": steps, "solver": solver, "guidance": guidance}

    def _numbers(self, labels: Any) -> Any:
        """Labels by their numbers, where they are text, which is a class's name."""
        if isinstance(labels, list):
            return [self._numbers(each) for each in labels]
        try:
            return (
                sampling_choice.class_number(self.source, labels)
                if isinstance(labels, str)
                else labels
            )
        except ConfigError as e:
            raise RequestError(f"labels: {e.faults[0].message}") from None

    def _networks(self) -> dict[str, dict[str, Any]]:
        """The trained ones of teacher and student: the step counts they have, None where any will
        do, what else they take, and how the page begins with them."""
        config, done = self.source.config, self.source.store.done
        found: dict[str, dict[str, Any]] = {}
        counts = [n for n, student in self.source.trial.students.items() if done(student.key)]
        if done(self.teacher.key):
            own = config.sampling if config.sampling.model == "teacher" else None
            found["teacher"] = {
                "steps": [own.steps] if own and own.times else None,
                "begin": own.steps if own else config.distill.intervals[0],
                "solvers": list(SOLVERS),
                "solver": own.solver if own else config.distill.solver(),
                "guided": bool(self.labelled and config.teacher.label_dropout),
            }
        if counts:
            found["student"] = {
                "steps": sorted(counts),
                "begin": max(counts),
                "solvers": [],
                "guided": False,
                "built_in": config.distill.guidance,
            }
        return found

    def _files(self, samples: Samples) -> list[bytes]:
        drawn: Tensor = self.data.from_floats(samples.images)
        if isinstance(self.data, PointData):
            return [
                marked(pictures.scatter_png(drawn.flatten(1), self.data.points))
            ]  # as `sample` writes it
        return [pictures.png(image) for image in drawn]

    def _command(self, given: Mapping[str, Any]) -> str:
        texts = {name: given[name] for name in ASKED if given[name] is not None}
        if "labels" in texts:
            labels = texts["labels"] if isinstance(texts["labels"], list) else [texts["labels"]]
            texts["labels"] = _listed([self.data.class_names[k] for k in labels])
        options = [part for name, value in texts.items() for part in (f"--{name}", str(value))]
        return command("sample", *self.found, *options, "--out", "grid.png")


def _listed(names: Sequence[str]) -> str:
    """Names as `sample --labels` takes them."""
    text = io.StringIO()
    csv.writer(text, lineterminator="").writerow(names)
    return text.getvalue()
