"""Draws of the Kac process with their velocities, as many as a batch of 128 colour images of 32x32
needs."""

import json
import subprocess
import sys
from collections.abc import Iterator

import torch

from benchmarks.measure import Figure, in_turns, ratio, spread
from benchmarks.table_sampler import TableSampler
from benchmarks.training import NETWORKS, step_of
from kaccore.process import KacProcess

BATCH, PIXELS = 128, 3 * 32 * 32
FIRST = """
import json, time
import torch
imported = time.perf_counter()
torch.set_num_threads(1)
from kaccore.process import KacProcess
from benchmarks.table_sampler import TableSampler
def peak():
    said = open("/proc/self/status").read()
    return next(int(line.split()[1]) for line in said.splitlines() if line.startswith("VmHWM")) / 1024
open("/proc/self/clear_refs", "w").write("5")  # begin anew: what was needed to import is no matter
held = peak()
t = torch.rand({batch})
{draw}
drawn = time.perf_counter()
for _ in range(20):
    again()
print(json.dumps({{"first": drawn - imported, "memory": peak() - held}}))
"""
OURS = """
process = KacProcess(25.0, 2.0)
again = lambda: process.sample_with_velocity(t, ({batch}, {pixels}))
again()
"""
TABLE = """
table = TableSampler(KacProcess(25.0, 2.0))
again = lambda: table.sample(t, pixels={pixels})
again()
"""


def figures() -> Iterator[Figure]:
    """Start, steady state, memory, and the share of training steps."""
    torch.set_num_threads(1)
    ours, table = (_fresh(draw) for draw in (OURS, TABLE))
    yield Figure(
        "draws",
        "first batch, after `import torch`",
        "",
        *spread([each["first"] for each in ours]),
        "s",
        "<= 0.5",
    )
    yield Figure(
        "draws", "first batch of the table", "", *spread([each["first"] for each in table]), "s"
    )
    yield Figure(
        "draws",
        "memory beside torch",
        "",
        *spread([each["memory"] for each in ours]),
        "MB",
        "<= 50",
    )
    yield Figure(
        "draws", "memory of the table", "", *spread([each["memory"] for each in table]), "MB"
    )
    process, sampler = KacProcess(25.0, 2.0), TableSampler(KacProcess(25.0, 2.0))
    t = torch.rand(BATCH)
    slow, fast = in_turns(
        lambda: sampler.sample(t, pixels=PIXELS),
        lambda: process.sample_with_velocity(t, (BATCH, PIXELS)),
    )
    yield Figure(
        "draws", "the table's batch", "ours, in steady state", *ratio(slow, fast), "times", ">= 3"
    )
    for name, reach in (("default", "<= 5"), ("34 M, KF", "<= 1")):
        step, draw = step_of(NETWORKS[name])
        whole, part = in_turns(step, draw, repeats=5 if name == "default" else 2, warm_up=1)
        shares = [100 * b / a for a, b in zip(whole, part, strict=True)]
        yield Figure(
            "draws", f"draws of a training step, {name}", "the step", *spread(shares), "%", reach
        )


def _fresh(draw: str) -> list[dict[str, float]]:
    """What a process of its own says of its first batch, some times over."""
    code = FIRST.format(batch=BATCH, draw=draw.format(batch=BATCH, pixels=PIXELS))
    repeats = 3 if draw is OURS else 1
    command = [sys.executable, "-c", code]
    run = [
        subprocess.run(command, capture_output=True, text=True, check=True) for _ in range(repeats)
    ]
    return [json.loads(each.stdout) for each in run]
