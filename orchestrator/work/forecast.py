"""Estimates the parameters, the memory and the time of a sweep before it starts.

Training steps of small networks are timed on this machine. A step of a large network may take a
minute on a CPU: there the operations are counted, and divided by the number of operations per second
of a timed convolution."""

import math
import resource
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

import torch

from kaccore.data import ImageData
from kaccore.distill import Pairs
from kaccore.ema import EMA
from kaccore.solvers import EVALUATIONS
from orchestrator.host import machine
from orchestrator.plan import cost
from orchestrator.plan.data import DatasetInfo, as_images
from orchestrator.plan.plan import Plan, Trial
from orchestrator.plan.stage import TRAINING, Stage
from orchestrator.store.store import Store
from orchestrator.work import building
from orchestrator.work.batch_loss import Group, batch_loss

LARGEST = 5e6  # maximum parameters of a network that is timed
TIMED_IMAGES = 64
START_SECONDS = 40.0  # start of Ray and of a worker group, for any sweep
# bytes per parameter of Adam's moments; a timed step omits Adam, whose import takes a second
MOMENTS = 8
# bytes per parameter: weight, gradient, average, two moments; for a student also its teacher
BYTES = {"teacher": 20, "student": 24}


@dataclass(frozen=True)
class Forecast:
    """`parameters` of the largest network. `state_bytes`: memory of a worker for weights, gradients,
    averages and moments, independent of the batch. `memory_bytes`: peak memory of this process with
    one step, 0: no step was timed. `seconds`: all work that remains. `step_seconds`: the mean time
    of a training step, None: nothing is to be trained. `operations`: their number, 0: steps were
    timed instead. `rate`: operations per second."""

    parameters: int
    state_bytes: int
    memory_bytes: int
    seconds: float
    step_seconds: float | None
    operations: float = 0.0
    rate: float = 0.0


def forecast(plan: Plan, store: Store, at_once: int, copies: float = 1.0) -> Forecast:
    """The forecast for the stages of `plan` that `store` does not have, with `at_once` concurrent
    stages on this machine. `copies`: the expected number of trials relative to those of the plan."""
    missing = [stage for stage in plan.stages() if not store.done(stage.key)]
    training = [stage for stage in missing if stage.kind in TRAINING]
    data = {s.key: _shaped(t.facts.data) for t in reversed(plan.trials) for s in t.chain}
    counts = {stage.key: _count(stage, data[stage.key]) for stage in training}
    parameters = max(counts.values(), default=0)
    state = max((counts[s.key] * _bytes_per_weight(s) for s in training), default=0)
    if not missing:
        return Forecast(parameters, state, 0, 0.0, None)
    torch.set_num_threads(max(1, int(plan.experiment.cluster.cpus_per_worker)))
    large = parameters > LARGEST
    step_seconds = _counted(training, data) if large else _timed(training, data)
    train_seconds = {stage.key: step_seconds[stage.key] * stage.steps for stage in training}
    for stage in missing:
        if stage.kind == "pairs":
            one_evaluation = _evaluation_seconds(stage.parents[0], data[stage.key])
            train_seconds[stage.key] = _pairs_evaluations(stage) * one_evaluation
    sample_seconds: dict[str, float] = {}
    for trial in plan.trials:
        if trial.evaluation is not None and not store.done(trial.evaluation.key):
            trained = trial.chain[-1]
            one_evaluation = _evaluation_seconds(trained, data[trained.key])
            sample_seconds[trial.key] = _evaluations(trial) * one_evaluation
    # the stages of a trial run one after the other: the sweep takes at least as long as the longest
    # trial, and at least the total divided by the concurrency
    trial_seconds = []
    for trial in plan.trials:
        chain_seconds = sum(train_seconds.get(stage.key, 0.0) for stage in trial.chain)
        trial_seconds.append(chain_seconds + sample_seconds.get(trial.key, 0.0))
    total = copies * (sum(train_seconds.values()) + sum(sample_seconds.values()))
    steps = sum(stage.steps for stage in training)
    stepped = sum(train_seconds[stage.key] for stage in training)
    mean_step = stepped / steps if steps else None
    seconds = START_SECONDS + max([*trial_seconds, total / at_once])
    if large:
        return Forecast(parameters, state, 0, seconds, mean_step, total * _rate(), _rate())
    return Forecast(parameters, state, _peak_bytes() + MOMENTS * parameters, seconds, mean_step)


def _bytes_per_weight(stage: Stage) -> int:
    """The memory of a worker for each weight of the network that it trains, in bytes."""
    return BYTES[stage.kind] + 4 * len(stage.training_spec.optimise.averages)


@lru_cache(maxsize=8)
def _shaped(info: DatasetInfo) -> ImageData:
    """Images of the data's shape: the time of a step does not depend on their content."""
    return as_images(info)


def _count(stage: Stage, data: ImageData) -> int:
    """The parameters of a chain's network. A sweep has many stages and few networks: each is built
    once."""
    kind, arguments = building.architecture(stage.teacher, data)
    architecture = (kind, repr(arguments))
    if architecture not in _COUNTS:
        with torch.device("meta"):
            network = building.network(stage.teacher, data)
        _COUNTS[architecture] = sum(weights.numel() for weights in network.parameters())
    return _COUNTS[architecture]


_COUNTS: dict[tuple[type[torch.nn.Module], str], int] = {}


def _timed(stages: Iterable[Stage], data: dict[str, ImageData]) -> dict[str, float]:
    """The seconds of a step of each stage, by key; stages with equally expensive steps are timed
    once."""
    by_cost: dict[str, float] = {}
    by_stage: dict[str, float] = {}
    for stage in stages:
        alike = _cost_key(stage, data[stage.key])
        if alike not in by_cost:
            by_cost[alike] = _step_seconds(stage, data[stage.key])
        by_stage[stage.key] = by_cost[alike]
    return by_stage


def _counted(stages: Iterable[Stage], data: dict[str, ImageData]) -> dict[str, float]:
    """The seconds of a step of each stage, by key, from the number of its operations."""
    seconds: dict[str, float] = {}
    for stage in stages:
        batch_size = stage.training_spec.optimise.batch_size
        operations = _operations(stage.teacher, data[stage.key])
        seconds[stage.key] = batch_size * cost.passes(stage) * operations / _rate()
    return seconds


def _operations(teacher: Stage, data: ImageData) -> float:
    """Floating point operations of one evaluation of a chain's network, for one image."""
    architecture = repr((teacher.teacher_spec.model, data.channels, data.size))
    if architecture not in _OPERATIONS:
        from torch.utils.flop_counter import FlopCounterMode

        with torch.device("meta"), torch.no_grad(), FlopCounterMode(display=False) as counter:
            model = building.network(teacher, data).eval()
            model(torch.zeros(1, data.channels, data.size, data.size), torch.ones(1))
        _OPERATIONS[architecture] = float(counter.get_total_flops())
    return _OPERATIONS[architecture]


_OPERATIONS: dict[str, float] = {}


@lru_cache(maxsize=1)
def _rate() -> float:
    """Floating point operations per second of a typical convolution on this machine."""
    x, weights = torch.zeros(8, 128, 32, 32), torch.zeros(128, 128, 3, 3)
    seconds = []
    with torch.no_grad():
        for _ in range(4):  # the first one warms up, and other processes may disturb one
            start = time.perf_counter()
            torch.conv2d(x, weights, padding=1)
            seconds.append(time.perf_counter() - start)
    return 2 * x.numel() * 9 * 128 / min(seconds)


def _cost_key(stage: Stage, data: ImageData) -> str:
    """All settings that the cost of a step depends on: not the seed, the parameters of the path or
    the learning rate."""
    spec = stage.training_spec
    teacher = stage.teacher_spec
    student = stage.student
    own = None if student is None else (student.distiller, student.passes(EVALUATIONS))
    optimise = spec.optimise
    size = (optimise.batch_size, optimise.precision, optimise.accumulate)
    shape = (data.channels, data.size, data.classes)
    return repr((teacher.model, teacher.path.called, shape, teacher.augment, own, size))


def _step_seconds(stage: Stage, data: ImageData) -> float:
    teacher = stage.teacher
    group = Group(0, 1, torch.device("cpu"))
    frozen = None
    model = building.network(teacher, data)
    if stage is not teacher:
        frozen = building.network(teacher, data, two_times=stage.parents[0].jumps)
        frozen = frozen.eval().requires_grad_(False)
        model = building.network(teacher, data, two_times=stage.jumps)
        model = building.of_module(stage, model, data, frozen)
    settings = building.optimiser_settings(stage)
    pairs = None if stage.pairs is None else _blank_pairs(data)
    loss = batch_loss(stage, frozen, data, EMA(model, settings.ema).model, group, pairs)
    if stage is teacher:
        loss(model, 0).backward()  # warms up: students come after their teacher
    # where the steps differ in cost, the mean of several
    steps = 1 if stage.student is None or stage.student.cycle == 1 else 3 * stage.student.cycle
    start = time.perf_counter()
    for part in range(steps * settings.accumulate):
        loss(model, part).backward()
    return (time.perf_counter() - start) / steps


def _blank_pairs(data: ImageData) -> Pairs:
    """A pair of each label: the time of a step does not depend on their content."""
    labels = torch.arange(data.classes) if data.classes else None
    count = data.classes or 1
    return Pairs(torch.zeros(count, data.channels, data.size, data.size), labels, 0)


def _pairs_evaluations(stage: Stage) -> float:
    """The number of network evaluations, of TIMED_IMAGES images each, that draw the pairs of
    `stage`."""
    return cost.evaluations(stage) / TIMED_IMAGES


def _evaluations(trial: Trial) -> float:
    """The number of network evaluations, of TIMED_IMAGES images each, in the evaluation of a
    trial."""
    sampling = trial.config.sampling
    evaluation = trial.config.evaluation
    batches = evaluation.samples * evaluation.seeds / TIMED_IMAGES
    guided = 2 if sampling.guidance != 1 else 1
    return batches * sampling.steps * EVALUATIONS[sampling.solver] * guided


def _evaluation_seconds(stage: Stage, data: ImageData) -> float:
    """The seconds of one evaluation of the network of `stage` for TIMED_IMAGES images."""
    architecture = repr((stage.teacher_spec.model, stage.jumps, data.channels, data.size))
    if architecture not in _EVALUATIONS:
        if _count(stage, data) > LARGEST:
            seconds = TIMED_IMAGES * _operations(stage.teacher, data) / _rate()
        else:
            seconds = _timed_evaluation(stage, data)
        _EVALUATIONS[architecture] = seconds
    return _EVALUATIONS[architecture]


_EVALUATIONS: dict[str, float] = {}


def _timed_evaluation(stage: Stage, data: ImageData) -> float:
    model = building.network(stage.teacher, data, two_times=stage.jumps).eval()
    x = torch.zeros(TIMED_IMAGES, data.channels, data.size, data.size)
    t = torch.ones(TIMED_IMAGES)
    extra = {"end": torch.zeros(TIMED_IMAGES)} if stage.jumps else {}
    with torch.no_grad():
        model(x, t, **extra)  # warms up
        start = time.perf_counter()
        model(x, t, **extra)
    return time.perf_counter() - start


def _peak_bytes() -> int:
    """The peak memory of this process, about that of a worker on a CPU without Ray."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def in_words(found: Forecast, at_once: int, holders: int = 0) -> list[str]:
    """The forecast as text, one line for each fact; `holders`: the number of workers that hold a
    network in the memory of this machine at the same time."""
    lines = []
    if found.parameters:
        state = f"{found.state_bytes / 1e9:.2g} GB of weights, averages and moments per worker"
        lines.append(f"network   {found.parameters:,} parameters; {state}, plus activations")
    needed = holders * max(found.memory_bytes, found.state_bytes)
    available = machine.memory()
    if needed > available:
        need = f"{holders} concurrent workers need {needed / 1e9:.1f} GB"
        why = f"{need}, but {available / 1e9:.1f} GB are available"
        lines.append(
            f"memory    {why}: lower sweep.max_concurrent_trials, cluster.workers or the batch size"
        )
    if found.step_seconds is None:
        return lines
    here = f"estimate  about {_duration(found.seconds)} on this machine, {at_once} at a time"
    if found.operations:
        counted = f"{found.operations:.2g} operations counted"
        how = f"from {counted} and {found.rate / 1e9:.0f} GFLOP/s measured here"
        return [*lines, f"{here}, {how}; a faster GPU takes proportionally less time"]
    memory = f"; {found.memory_bytes / 1e9:.1f} GB per worker" if found.memory_bytes else ""
    step = f"{1e3 * found.step_seconds:.0f} ms on average"
    return [*lines, f"{here}, from steps timed here ({step}){memory}"]


def _duration(seconds: float) -> str:
    minutes = math.ceil(seconds / 60)
    return f"{minutes} min" if minutes < 600 else f"{minutes / 60:,.0f} h"
