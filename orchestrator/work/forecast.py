"""What a sweep will take, before it is started: parameters, memory, and time.

The steps of small networks are timed here. Of large ones, of which a step may take a minute on a
CPU, the operations are counted, and a convolution is timed for how many of them this machine does
in a second."""

import math
import resource
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

import torch

from kaccore.data import ImageData
from kaccore.ema import EMA
from kaccore.solvers import EVALUATIONS
from orchestrator.host import machine
from orchestrator.plan.data import DatasetInfo, as_images
from orchestrator.plan.plan import Plan, Trial
from orchestrator.plan.stage import TRAINING, Stage
from orchestrator.store.store import Store
from orchestrator.work import building
from orchestrator.work.batch_loss import Group, batch_loss

LARGEST = 5e6  # parameters of a network that is timed
TIMED_IMAGES = 64
START_SECONDS = 40.0  # of Ray and of a worker group, whatever the sweep
# bytes a parameter of Adam's, which a timed step does without: to make one takes a second of
# imports
MOMENTS = 8
BYTES = {
    "teacher": 20,
    "student": 24,
}  # a parameter: weight, gradient, average, two moments; a student's teacher
BACKWARD = 3  # forward passes that a forward and a backward pass cost


@dataclass(frozen=True)
class Forecast:
    """`parameters` of the largest network; `state_bytes` a worker needs for weights and what
    belongs to them, whatever the batch; `memory_bytes` that this process took with one step (0:
    none was timed); `seconds` of all that is to do, of which a step takes `step_seconds` on average
    (None: nothing is to be trained); `operations` where they were counted, and not steps timed, at
    `rate` of them in a second."""

    parameters: int
    state_bytes: int
    memory_bytes: int
    seconds: float
    step_seconds: float | None
    operations: float = 0.0
    rate: float = 0.0


def forecast(plan: Plan, store: Store, at_once: int, copies: float = 1.0) -> Forecast:
    """The forecast of what `store` lacks of `plan`, with `at_once` stages under way at a time on
    this machine; `copies`: how many times as many trials there will be, like those of the plan."""
    todo = [stage for stage in plan.stages() if not store.done(stage.key)]
    training = [stage for stage in todo if stage.kind in TRAINING]
    data = {s.key: _shaped(t.facts.data) for t in reversed(plan.trials) for s in t.chain}
    counts = {stage.key: _count(stage, data[stage.key]) for stage in training}
    parameters = max(counts.values(), default=0)
    state = max((counts[s.key] * BYTES[s.kind] for s in training), default=0)
    if not todo:
        return Forecast(parameters, state, 0, 0.0, None)
    torch.set_num_threads(max(1, int(plan.experiment.cluster.cpus_per_worker)))
    large = parameters > LARGEST
    a_step = _counted(training, data) if large else _timed(training, data)
    took = {stage.key: a_step[stage.key] * stage.steps for stage in training}
    evaluations = [
        t for t in plan.trials if t.evaluation is not None and not store.done(t.evaluation.key)
    ]
    sampling = {
        t.key: _evaluations(t) * _evaluation_seconds(t.chain[-1], data[t.chain[-1].key])
        for t in evaluations
    }
    # what hangs on each other runs one after the other: no less than the longest chain, no less
    # than a fair share
    ways = [
        sum(took.get(s.key, 0.0) for s in t.chain) + sampling.get(t.key, 0.0) for t in plan.trials
    ]
    total = copies * (sum(took.values()) + sum(sampling.values()))
    steps = sum(stage.steps for stage in training)
    mean_step = sum(took.values()) / steps if steps else None
    seconds = START_SECONDS + max([*ways, total / at_once])
    if large:
        return Forecast(parameters, state, 0, seconds, mean_step, total * _rate(), _rate())
    return Forecast(parameters, state, _peak_bytes() + MOMENTS * parameters, seconds, mean_step)


@lru_cache(maxsize=8)
def _shaped(info: DatasetInfo) -> ImageData:
    """Images of the data's shape: how long a step takes does not hang on what they show."""
    return as_images(info)


def _count(stage: Stage, data: ImageData) -> int:
    with torch.device("meta"):
        network = building.network(stage.teacher, data)
    return sum(weights.numel() for weights in network.parameters())


def _timed(stages: Iterable[Stage], data: dict[str, ImageData]) -> dict[str, float]:
    """The seconds of a step of each stage, by key; stages whose steps cost the same are timed
    once."""
    seconds: dict[str, float] = {}
    found = {}
    for stage in stages:
        like = _cost_key(stage, data[stage.key])
        if like not in seconds:
            seconds[like] = _step_seconds(stage, data[stage.key])
        found[stage.key] = seconds[like]
    return found


def _counted(stages: Iterable[Stage], data: dict[str, ImageData]) -> dict[str, float]:
    """The same from the operations of a step, which are counted."""
    return {
        stage.key: stage.training_spec.optimise.batch_size
        * passes(stage)
        * _operations(stage.teacher, data[stage.key])
        / _rate()
        for stage in stages
    }


def passes(stage: Stage) -> float:
    """How many forward passes of the network a training step of `stage` costs for each image, a
    backward pass being two."""
    return BACKWARD + (0 if stage.student is None else stage.student.passes(EVALUATIONS))


def _operations(teacher: Stage, data: ImageData) -> float:
    """Floating point operations of one evaluation of a chain's network, for one image."""
    like = repr((teacher.teacher_spec.model, data.channels, data.size))
    if like not in _OPERATIONS:
        from torch.utils.flop_counter import FlopCounterMode

        with torch.device("meta"), torch.no_grad(), FlopCounterMode(display=False) as counter:
            model = building.network(teacher, data).eval()
            model(torch.zeros(1, data.channels, data.size, data.size), torch.ones(1))
        _OPERATIONS[like] = float(counter.get_total_flops())
    return _OPERATIONS[like]


_OPERATIONS: dict[str, float] = {}


@lru_cache(maxsize=1)
def _rate() -> float:
    """Floating point operations in a second of a convolution here, as networks have them."""
    x, weights = torch.zeros(8, 128, 32, 32), torch.zeros(128, 128, 3, 3)
    seconds = []
    with torch.no_grad():
        for _ in range(4):  # the first one warms up, and others may use the machine as well
            began = time.perf_counter()
            torch.conv2d(x, weights, padding=1)
            seconds.append(time.perf_counter() - began)
    return 2 * x.numel() * 9 * 128 / min(seconds)


def _cost_key(stage: Stage, data: ImageData) -> str:
    """What a step's cost hangs on: not the seed, the path's numbers or the learning rate."""
    spec = stage.training_spec
    teacher = stage.teacher_spec
    student = stage.student
    own = None if student is None else (student.distiller, student.passes(EVALUATIONS))
    optimise = spec.optimise
    size = (optimise.batch_size, optimise.precision, optimise.accumulate)
    shape = (data.channels, data.size, data.classes)
    return repr((teacher.model, teacher.path.called, shape, teacher.augment, own, size))


def _step_seconds(stage: Stage, data: ImageData) -> float:
    teacher, group = stage.teacher, Group(0, 1, torch.device("cpu"))
    frozen = None
    model = building.network(teacher, data)
    if stage is not teacher:
        frozen = (
            building.network(teacher, data, two_times=stage.parents[0].jumps)
            .eval()
            .requires_grad_(False)
        )
        model = building.network(teacher, data, two_times=stage.jumps)
        model = building.of_student(stage).trained(model)
    settings = building.optimiser_settings(stage)
    loss = batch_loss(stage, frozen, data, EMA(model, settings.ema).model, group)
    if stage is teacher:
        loss(model, 0).backward()  # warms up: students come after their teacher
    began = time.perf_counter()
    for part in range(settings.accumulate):
        loss(model, part).backward()
    return time.perf_counter() - began


def _evaluations(trial: Trial) -> float:
    """How many evaluations of the network, of TIMED_IMAGES each, the evaluation of a trial
    takes."""
    setting, evaluation = trial.config.sampling, trial.config.evaluation
    images = evaluation.samples * evaluation.seeds
    return (
        images
        / TIMED_IMAGES
        * setting.steps
        * EVALUATIONS[setting.solver]
        * (2 if setting.guidance != 1 else 1)
    )


def _evaluation_seconds(stage: Stage, data: ImageData) -> float:
    like = repr((stage.teacher_spec.model, data.channels, data.size))
    if like not in _EVALUATIONS:
        if _count(stage, data) > LARGEST:
            _EVALUATIONS[like] = TIMED_IMAGES * _operations(stage.teacher, data) / _rate()
            return _EVALUATIONS[like]
        model = building.network(stage.teacher, data, two_times=stage.jumps).eval()
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
    """The most memory that this process has held: what a worker on a CPU takes, give or take Ray's
    own."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def in_words(found: Forecast, at_once: int, holders: int = 0) -> list[str]:
    """The forecast for people, a line a fact; `holders`: how many workers have a network in this
    machine's own memory at a time."""
    lines = []
    if found.parameters:
        state = f"{found.state_bytes / 1e9:.2g} GB of weights, averages and moments a worker"
        lines.append(f"network   {found.parameters:,} parameters; {state}, activations come on top")
    wanted = holders * max(found.memory_bytes, found.state_bytes)
    there = machine.memory()
    if wanted > there:
        why = f"{holders} workers at a time take {wanted / 1e9:.1f} GB, and {there / 1e9:.1f} GB may be used"
        lines.append(
            f"memory    {why}: lower sweep.max_concurrent_trials, cluster.workers or the batch"
        )
    if found.step_seconds is None:
        return lines
    here = f"estimate  about {_duration(found.seconds)} on this machine, {at_once} at a time"
    if found.operations:
        how = f"from {found.operations:.2g} operations counted and {found.rate / 1e9:.0f} GFLOP/s measured here"
        return [*lines, f"{here}, {how}; a GPU takes as much less as it is faster"]
    memory = f"; {found.memory_bytes / 1e9:.1f} GB a worker" if found.memory_bytes else ""
    step = f"{1e3 * found.step_seconds:.0f} ms on average"
    return [*lines, f"{here}, from steps timed here ({step}){memory}"]


def _duration(seconds: float) -> str:
    minutes = math.ceil(seconds / 60)
    return f"{minutes} min" if minutes < 600 else f"{minutes / 60:,.0f} h"
