"""What a sweep will take, before it is started: parameters, memory, and time from steps that are timed here."""

import math
import resource
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass

import torch

from kaccore.data import ImageData
from kaccore.ema import EMA
from orchestrator import build
from orchestrator.graph import TRAINING, Stage
from orchestrator.plan import Plan, Trial
from orchestrator.store import Store
from orchestrator.workers import Group, batch_loss

LARGEST = 5e6  # parameters of a network that is timed: a step of a larger one may take a minute on a CPU
TIMED_IMAGES = 64
START_SECONDS = 40.0  # of Ray and of a worker group, whatever the sweep
MOMENTS = 8  # bytes a parameter of Adam's, which a timed step does without: to make one takes a second of imports
BYTES = {"teacher": 20, "student": 24}  # a parameter: weight, gradient, average, two moments; a student's teacher


@dataclass(frozen=True)
class Forecast:
    """`parameters` of the largest network; `state_bytes` a worker needs for weights and what belongs to them, whatever
    the batch; `memory_bytes` that this process took with one step (0: none was timed); `seconds` of all that is to do
    (None: none was timed), of which `step_seconds` were measured a step on average."""

    parameters: int
    state_bytes: int
    memory_bytes: int
    seconds: float | None
    step_seconds: float | None


def forecast(plan: Plan, store: Store, data: ImageData, at_once: int) -> Forecast:
    """The forecast of what `store` lacks of `plan`, with `at_once` stages under way at a time on this machine."""
    todo = [stage for stage in plan.stages() if not store.done(stage.key)]
    training = [stage for stage in todo if stage.kind in TRAINING]
    counts = {stage.key: _count(stage, data) for stage in training}
    parameters = max(counts.values(), default=0)
    state = max((counts[s.key] * BYTES[s.kind] for s in training), default=0)
    if parameters > LARGEST or not todo:
        return Forecast(parameters, state, 0, None if todo else 0.0, None)
    torch.set_num_threads(max(1, int(plan.experiment.cluster.cpus_per_worker)))
    a_step = {stage.key: each for stage, each in _timed(training, data)}
    took = {stage.key: a_step[stage.key] * stage.steps for stage in training}
    evaluations = [t for t in plan.trials if t.evaluation is not None and not store.done(t.evaluation.key)]
    sampling = {t.key: _sampling_seconds(t, data) for t in evaluations}
    # what hangs on each other runs one after the other: no less than the longest chain, no less than a fair share
    ways = [sum(took.get(s.key, 0.0) for s in t.chain) + sampling.get(t.key, 0.0) for t in plan.trials]
    total = sum(took.values()) + sum(sampling.values())
    steps = sum(stage.steps for stage in training)
    mean_step = sum(took.values()) / steps if steps else None
    seconds = START_SECONDS + max([*ways, total / at_once])
    return Forecast(parameters, state, _peak_bytes() + MOMENTS * parameters, seconds, mean_step)


def _count(stage: Stage, data: ImageData) -> int:
    with torch.device("meta"):
        network = build.network(stage.lineage()[0], data)
    return sum(weights.numel() for weights in network.parameters())


def _timed(stages: Iterable[Stage], data: ImageData) -> list[tuple[Stage, float]]:
    """Each stage with the seconds of a step of it; stages whose steps cost the same are timed once."""
    seconds: dict[str, float] = {}
    found = []
    for stage in stages:
        like = _cost_key(stage)
        if like not in seconds:
            seconds[like] = _step_seconds(stage, data)
        found.append((stage, seconds[like]))
    return found


def _cost_key(stage: Stage) -> str:
    """What a step's cost hangs on: not the seed, the path's numbers or the learning rate."""
    teacher = stage.lineage()[0].config
    own = {k: stage.config.get(k) for k in ("distiller", "substeps", "solver", "augment")}
    size = {k: stage.config["optimise"].get(k) for k in ("batch_size", "precision", "accumulate")}
    guided = stage.config.get("guidance", 1.0) != 1.0
    return repr((teacher["model"], teacher["path"]["kind"], teacher["data"]["name"], own, size, guided))


def _step_seconds(stage: Stage, data: ImageData) -> float:
    teacher, group = stage.lineage()[0], Group(0, 1, torch.device("cpu"))
    frozen = None
    model = build.network(teacher, data)
    if stage is not teacher:
        frozen = build.network(teacher, data, two_times=stage.parents[0].jumps).eval().requires_grad_(False)
        model = build.paired(stage, build.network(teacher, data, two_times=stage.jumps))
    settings = build.optimiser_settings(stage)
    loss = batch_loss(stage, frozen, data, EMA(model, settings.ema).model, group)
    if stage is teacher:
        loss(model, 0).backward()  # warms up: students come after their teacher
    began = time.perf_counter()
    for part in range(settings.accumulate):
        loss(model, part).backward()
    return time.perf_counter() - began


def _sampling_seconds(trial: Trial, data: ImageData) -> float:
    """Of all the images of an evaluation: one evaluation of the network is timed, the rest is multiplication."""
    assert trial.evaluation is not None
    stage, setting = trial.chain[-1], trial.config.sampling
    images = trial.config.evaluation.samples * trial.config.evaluation.seeds
    evaluations = {"midpoint": 2, "heun": 2, "rk4": 4}.get(setting.solver, 1) * (2 if setting.guidance != 1 else 1)
    return images / TIMED_IMAGES * setting.steps * evaluations * _evaluation_seconds(stage, data)


def _evaluation_seconds(stage: Stage, data: ImageData) -> float:
    like = repr(stage.lineage()[0].config["model"])
    if like not in _EVALUATIONS:
        model = build.network(stage.lineage()[0], data, two_times=stage.jumps).eval()
        x = torch.zeros(TIMED_IMAGES, data.channels, data.size, data.size)
        t = torch.ones(TIMED_IMAGES)
        extra = {"end": torch.zeros(TIMED_IMAGES)} if stage.jumps else {}
        with torch.no_grad():
            model(x, t, **extra)
            began = time.perf_counter()
            model(x, t, **extra)
        _EVALUATIONS[like] = time.perf_counter() - began
    return _EVALUATIONS[like]


_EVALUATIONS: dict[str, float] = {}


def _peak_bytes() -> int:
    """The most memory that this process has held: what a worker on a CPU takes, give or take Ray's own."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def in_words(found: Forecast, at_once: int) -> list[str]:
    """The forecast for people, a line a fact."""
    lines = []
    if found.parameters:
        state = f"{found.state_bytes / 1e9:.2g} GB of weights, averages and moments a worker"
        lines.append(f"network   {found.parameters:,} parameters; {state}, activations come on top")
    if found.seconds is None:
        lines.append("estimate  none: a network of this size is not timed here")
    elif found.step_seconds is not None:
        memory = f"; {found.memory_bytes / 1e9:.1f} GB a worker" if found.memory_bytes else ""
        minutes = math.ceil(found.seconds / 60)
        lines.append(
            f"estimate  about {minutes} min on this machine, {at_once} at a time, from steps timed here "
            f"({1e3 * found.step_seconds:.0f} ms on average){memory}"
        )
    return lines
