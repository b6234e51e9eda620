"""Milliseconds of what a digits run spends its time on, one thread: `python benchmarks/training_step.py`.

Medians of repeated calls; compare within one run, machines and their load differ.
"""

import statistics
import time
from collections.abc import Callable

import torch
from rich.console import Console
from rich.table import Table

from kaccore import EndpointDistiller, KacPath, KacProcess, flow_matching_loss
from kaccore.data import load
from kaccore.models import UNet
from kaccore.training import Settings, Training

BATCH, REPEATS = 128, 15


def milliseconds(call: Callable[[], object]) -> float:
    """The median time of `call` after three warm-up calls."""
    for _ in range(3):
        call()
    times = []
    for _ in range(REPEATS):
        began = time.perf_counter()
        call()
        times.append(1e3 * (time.perf_counter() - began))
    return statistics.median(times)


def main() -> None:
    """Measure and print."""
    torch.set_num_threads(1)
    data, path = load("digits"), KacPath(KacProcess(25.0, 2.0), clock="quadratic")
    x0, labels = data.floats()[:BATCH], data.labels[:BATCH] if data.labels is not None else None
    table = Table("what", f"ms a batch of {BATCH}", title="one thread")
    t = torch.rand(BATCH)
    table.add_row("draw x_t and its velocity", f"{milliseconds(lambda: path.sample(x0, t)):.1f}")
    for name, settings in {"patch 1": {"patch": 1}, "patch 2": {"patch": 2}}.items():
        model = UNet(8, 1, channels=32, multipliers=(1, 2), blocks=1, classes=10, **settings)
        with torch.no_grad():
            table.add_row(f"{name}: evaluate the network", f"{milliseconds(lambda m=model: m(x0, t, labels)):.1f}")
        teacher = Training(model, Settings(steps=10**6, lr=1e-3, ema=0.999))
        steps = teacher.run(lambda net, step: flow_matching_loss(net, path, x0, labels))
        table.add_row(f"{name}: training step", f"{milliseconds(lambda s=steps: next(s)):.1f}")
        for substeps in (2, 5):
            distiller = EndpointDistiller(teacher.ema.model, path, intervals=4, substeps=substeps)
            student = Training(model, Settings(steps=10**6, lr=1e-3, ema=0.999))
            steps = student.run(lambda net, step, d=distiller: d.loss(net, x0, labels))
            what = f"{name}: distillation step, {substeps} teacher steps"
            table.add_row(what, f"{milliseconds(lambda s=steps: next(s)):.1f}")
    Console().print(table)


if __name__ == "__main__":
    main()
