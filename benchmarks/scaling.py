"""Beyond one machine: `python -m benchmarks.scaling`. The calculated cost of a CIFAR-10 table, with and
without shared stages, and the driver's own work by the number of trials. `docs/scaling.md` discusses
the results."""

import sys
import tempfile
import time
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import torch
from rich.console import Console
from rich.table import Table
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.store import finish, plan
from kaccore.solvers import EVALUATIONS
from orchestrator.methods.network_kind import NetworkKind
from orchestrator.plan.plan import Trial, alike, make
from orchestrator.plan.stage import Stage
from orchestrator.settings import loading
from orchestrator.settings.loading import override
from orchestrator.store.store import Store
from orchestrator.sweeps.records import Records

PAPER = Path(__file__).parents[1] / "experiments" / "paper"
# 5 x 5 damping and speed, 3 seeds, and 5 step counts: the teacher's, and those of its students
SPACE = {
    "path.damping": {"grid": [4.0, 9.0, 16.0, 25.0, 49.0]},
    "path.speed": {"grid": [1.0, 2.0, 3.0, 4.0, 5.0]},
    "seed": {"grid": [0, 1, 2]},
}
STEPS = {"teacher": [100], "student": [1, 2, 4, 20]}
# operations a second of an H100 in dense bfloat16, and the assumed share of it
PEAK = 989e12
SHARE = 0.35
TRIALS = (100, 1_000, 10_000)


def main() -> None:
    """Compute, measure and print."""
    console = Console(width=110)
    console.print(gpu_hours("distillkac_cifar10.yaml", "kacflow_cifar10.yaml"))
    console.print(driver_times(map(int, sys.argv[1:] or TRIALS)))


def gpu_hours(*names: str) -> Table:
    """GPU hours of the 375 cells; cells of 100 steps sample the teacher, the others students."""
    table = Table("network", "cells", "stages", "GPU hours, shared", "each cell alone", "times")
    for name in names:
        experiment = loading.load(PAPER / name)
        cells: list[Trial] = []
        for model, steps in STEPS.items():
            sampling = {
                "model": model,
                "solver": "ab2" if model == "teacher" else "euler",
                "steps": steps[0],
            }
            space = {**SPACE, "sampling.steps": {"grid": steps}}
            chosen = override(experiment, {"sampling": sampling, "sweep": {"space": space}})
            cells += make(chosen, alike("fingerprint", "inception-v3-compat")).trials
        once = {stage.key: stage for trial in cells for stage in trial.stages()}
        shared = hours(once.values())
        alone = sum(hours(trial.stages()) for trial in cells)
        table.add_row(
            name,
            str(len(cells)),
            str(len(once)),
            f"{shared:,.0f}",
            f"{alone:,.0f}",
            f"{alone / shared:.2f}",
        )
    return table


def hours(stages: Iterable[Stage]) -> float:
    """Hours of one GPU for the arithmetic of `stages`, without features and data."""
    return sum(_operations(stage) for stage in stages) / (PEAK * SHARE) / 3600


def _operations(stage: Stage) -> float:
    if stage.kind == "reference":
        return 0.0
    teacher = stage.teacher_spec
    once = _forward_operations(teacher.model, 10 if teacher.label_dropout else 0)
    if stage.kind == "evaluation":
        spec = stage.evaluation_spec
        passes = spec.sampling.steps * EVALUATIONS[spec.sampling.solver]
        return spec.samples * spec.seeds * once * passes
    optimise = stage.training_spec.optimise
    taught = 0 if stage.student is None else stage.student.passes(EVALUATIONS)
    # a backward pass counts as two forward ones
    return optimise.steps * optimise.batch_size * (3 + taught) * once


class Shape(NamedTuple):
    """The shape of images."""

    channels: int
    size: int


@lru_cache
def _forward_operations(model: NetworkKind, classes: int) -> float:
    """Operations of one evaluation of the network for one image of 32x32."""
    arguments = model.arguments(Shape(3, 32))
    with torch.device("meta"), FlopCounterMode(display=False) as counter:
        model.network()(**arguments, classes=classes)(torch.empty(1, 3, 32, 32), torch.empty(1))
    return float(counter.get_total_flops())


def driver_times(counts: Iterable[int]) -> Table:
    """Seconds of the driver's own work for a number of trials."""
    table = Table("trials", "plan", "look up finished stages", "record each end", "write the table")
    for count in counts:
        with tempfile.TemporaryDirectory() as folder:
            began = time.perf_counter()
            planned = plan(count)
            seconds = [time.perf_counter() - began]
            records = Records(planned, Store(Path(folder)))
            records.open()
            finish(records)
            for work in (_look_up, _end_trials, Records.save):
                began = time.perf_counter()
                work(records)
                seconds.append(time.perf_counter() - began)
        table.add_row(f"{count:,}", *(f"{value:.2f} s" for value in seconds))
    return table


def _look_up(records: Records) -> None:
    assert all(records.store.done(stage.key) for stage in records.plan.stages())


def _end_trials(records: Records) -> None:
    for trial in records.plan.trials:
        records.end(trial.index, "done")


if __name__ == "__main__":
    main()
