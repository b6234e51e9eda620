"""From an experiment to trials and stages, each stage keyed by its content.

    reference (features of the data)  --------------------\
    teacher -> student(20) -> student(4) -> student(1) ->  evaluation

A key is the hash of exactly the settings that can change the result, the parents' keys and the data's fingerprint.
Names, comments, storage, tracking, cluster and checkpoint settings are no part of it.
"""

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from typing import Any

from orchestrator.config import Experiment
from orchestrator.search import Skipped, expand

FORMAT = {"reference": 1, "teacher": 2, "student": 2, "evaluation": 1}  # raise one when code changes its results
TRAINING = ("teacher", "student")
GOALS = ("teacher", "student", "evaluation", "sweep")  # how far a run goes: train, distill, evaluate, sweep


@dataclass(frozen=True)
class Stage:
    """One computation: its `kind`, the `config` that its result depends on, and the stages it builds on."""

    kind: str
    config: dict[str, Any] = field(hash=False)
    parents: tuple["Stage", ...] = ()
    label: str = field(default="", compare=False)

    @cached_property
    def key(self) -> str:
        """20 hexadecimal digits of the sha256 of everything that can change the result."""
        content = [self.kind, FORMAT[self.kind], self.config, [p.key for p in self.parents]]
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:20]

    @property
    def steps(self) -> int:
        """Training steps of a teacher or student."""
        return int(self.config["optimise"]["steps"])

    @cached_property
    def family(self) -> str | None:
        """What all training stages share that differ in their steps alone, None where a longer training is another
        from its first step on: a cosine reaches down to its own last step."""
        if self.kind not in TRAINING or self.config["optimise"]["schedule"] != "constant":
            return None
        shared = {**self.config, "optimise": {k: v for k, v in self.config["optimise"].items() if k != "steps"}}
        return Stage(self.kind, shared, self.parents).key

    def lineage(self) -> tuple["Stage", ...]:
        """The training stages from the teacher to this one."""
        before = self.parents[0].lineage() if self.kind == "student" else ()
        return (*before, self) if self.kind in TRAINING else self.parents[0].lineage()


@dataclass(frozen=True)
class Trial:
    """One row of the results: a complete configuration, the training stages it needs, and its evaluation if any."""

    index: int
    overrides: dict[str, Any]
    config: Experiment
    chain: tuple[Stage, ...]
    reference: Stage | None = None
    evaluation: Stage | None = None

    @property
    def key(self) -> str:
        """The key of the last stage: what the trial is for."""
        return (self.evaluation or self.chain[-1]).key

    @property
    def title(self) -> str:
        """The swept settings in short, for people."""
        return ", ".join(f"{k.rsplit('.', 1)[-1]} {v}" for k, v in self.overrides.items()) or self.config.name

    def stages(self) -> tuple[Stage, ...]:
        """All stages of the trial, parents first."""
        return (*self.chain, *(s for s in (self.reference, self.evaluation) if s is not None))


@dataclass(frozen=True)
class Plan:
    """All trials of an experiment, those combinations that were left out, and an id that equal plans share."""

    experiment: Experiment
    goal: str
    trials: tuple[Trial, ...]
    skipped: tuple[Skipped, ...]

    @cached_property
    def id(self) -> str:
        """10 hexadecimal digits: the same command again gives the same id, and so finds its folder and runs."""
        content = [self.experiment.name, self.goal, [(t.overrides, t.key) for t in self.trials]]
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:10]

    def stages(self, kinds: Sequence[str] = tuple(FORMAT)) -> Iterator[Stage]:
        """Every stage once, parents before children, in the order of the trials."""
        seen: set[str] = set()
        for stage in (s for t in self.trials for s in t.stages()):
            if stage.key not in seen and stage.kind in kinds:
                seen.add(stage.key)
                yield stage

    def leaders(self) -> list[Trial]:
        """The trials with the longest chains: everything that any trial needs trained is in one of theirs."""
        chosen: list[Trial] = []
        for trial in sorted(self.trials, key=lambda t: -len(t.chain)):
            if not any(trial.chain[-1].key in {s.key for s in t.chain} for t in chosen):
                chosen.append(trial)
        return chosen

    def running_order(self) -> list[Trial]:
        """Leaders first, so that one worker group trains a whole chain; the others by how soon theirs will be there."""
        leaders = self.leaders()
        return leaders + sorted((t for t in self.trials if t not in leaders), key=lambda t: len(t.chain))


def make(experiment: Experiment, fingerprint: str, features: str, goal: str = "sweep") -> Plan:
    """The plan of `experiment` up to `goal`: all trials of its sweep, or the one of its base.

    `fingerprint` is the data's, `features` the name of the feature extractor that `evaluation.features` means.
    """
    expansion = expand(experiment if goal == "sweep" else experiment.override({"sweep": None}))
    trials = tuple(_trial(s.index, s.overrides, s.config, fingerprint, features, goal) for s in expansion.trials)
    return Plan(experiment, goal, trials, tuple(expansion.skipped))


def teacher_stage(config: Experiment, fingerprint: str) -> Stage:
    """The teacher of a run."""
    teacher = config.teacher.model_dump(mode="json")
    label_dropout = teacher.pop("label_dropout")
    content = {
        "data": {"name": config.data.name, "fingerprint": fingerprint},
        "path": path_content(config),
        "model": config.model.model_dump(mode="json"),
        "label_dropout": label_dropout,
        "optimise": teacher,
        "seed": config.seed,
    }
    return Stage("teacher", content, label="teacher")


def chain(config: Experiment, fingerprint: str) -> tuple[Stage, ...]:
    """The teacher and the student of every interval count, each the next one's teacher."""
    distill, stages = config.distill, [teacher_stage(config, fingerprint)]
    counts = [distill.teacher_steps, *distill.intervals]
    for i, (before, intervals) in enumerate(pairwise(counts)):
        content = {
            "distiller": distill.kind,
            "intervals": intervals,
            "substeps": before // intervals,
            "solver": distill.teacher_solver if i == 0 else "euler",  # a student is integrated on its own grid
            "guidance": distill.guidance if i == 0 else 1.0,  # and carries its teacher's guidance already
            "target": distill.target,
            "optimise": {
                "steps": _at(distill.steps, i),
                "lr": _at(distill.lr, i),
                **{k: getattr(distill, k) for k in ("batch_size", "ema", "schedule", "warmup", "clip")},
            },
            "seed": config.seed,
        }
        stages.append(Stage("student", content, (stages[-1],), f"student {intervals}"))
    return tuple(stages)


def path_content(config: Experiment) -> dict[str, Any]:
    """The settings of the path that its kind uses: an unused one cannot change a key."""
    used = {"kac": ("damping", "speed", "signal", "clock"), "diffusion": ("schedule",), "flow_matching": ()}
    path = config.path
    content = {"kind": path.kind, **{k: getattr(path, k) for k in used[path.kind]}}
    if path.kind != "kac":
        # the width of the Kac prior unless given, so that a sweep over path.kind compares at equal width
        content["width"] = path.width if path.width is not None else _kac_width(path.damping, path.speed)
    return content


def intervals_text(config: Experiment) -> str:
    """The distillation chain as text: 100-20-4-2-1."""
    return "-".join(str(n) for n in (config.distill.teacher_steps, *config.distill.intervals))


def _trial(
    index: int, overrides: dict[str, Any], config: Experiment, fingerprint: str, features: str, goal: str
) -> Trial:
    stages = chain(config, fingerprint)
    if goal == "teacher":
        return Trial(index, overrides, config, stages[:1])
    if goal == "student":
        return Trial(index, overrides, config, stages)
    sampling, evaluation = config.sampling, config.evaluation
    count = 0 if sampling.model == "teacher" else config.distill.intervals.index(sampling.steps) + 1
    stages = stages[: count + 1]
    real = {"data": stages[0].config["data"], "features": features, "weights_sha256": evaluation.weights_sha256}
    reference = Stage("reference", real, label="reference")
    content = {
        "sampling": sampling.model_dump(mode="json", include={"solver", "steps", "guidance", "labels"}),
        "samples": evaluation.samples,
        "metrics": sorted(evaluation.metrics),
        "seeds": evaluation.seeds,
        "seed": config.seed,
    }
    label = f"{sampling.model} {sampling.steps} {sampling.solver}"
    last = Stage("evaluation", content, (stages[-1], reference), label)
    return Trial(index, overrides, config, stages, reference, last)


def _at(value: Any, index: int) -> Any:
    return value[index] if isinstance(value, list | tuple) else value


def _kac_width(damping: float, speed: float) -> float:
    import torch

    from kaccore import KacProcess

    return float(KacProcess(damping, speed).variance(torch.tensor(1.0, dtype=torch.float64)).sqrt())
