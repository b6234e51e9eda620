"""Draws of the Kac process with their velocities, as many as for a batch of 128 colour images of
32x32."""

import json
import subprocess
import sys
from collections.abc import Iterator

import torch

from benchmarks.measure import Measurement, in_turns, ratio, spread
from benchmarks.table_sampler import TableSampler
from benchmarks.training import NETWORKS, step_of
from kaccore.process import KacProcess

BATCH, PIXELS = 128, 3 * 32 * 32
PROGRAM = """
import json, time
import torch
imported = time.perf_counter()
torch.set_num_threads(1)
from kaccore.process import KacProcess
from benchmarks.table_sampler import TableSampler
def peak():
    status = open("/proc/self/status").read()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM")) / 1024
open("/proc/self/clear_refs", "w").write("5")  # reset the peak: importing does not count
before = peak()
t = torch.rand({batch})
{draw}
drawn = time.perf_counter()
for _ in range(20):
    again()
print(json.dumps({{"first": drawn - imported, "memory": peak() - before}}))
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


def measurements() -> Iterator[Measurement]:
    """The first batch, the steady state, memory, and the share of a training step."""
    torch.set_num_threads(1)
    ours, table = (_in_new_process(draw) for draw in (OURS, TABLE))
    yield Measurement(
        "draws",
        "first batch, after `import torch`",
        "",
        *spread([run["first"] for run in ours]),
        "s",
        "<= 0.5",
    )
    yield Measurement(
        "draws", "first batch of the table", "", *spread([run["first"] for run in table]), "s"
    )
    yield Measurement(
        "draws",
        "memory in addition to torch",
        "",
        *spread([run["memory"] for run in ours]),
        "MB",
        "<= 50",
    )
    yield Measurement(
        "draws", "memory of the table", "", *spread([run["memory"] for run in table]), "MB"
    )
    process, sampler = KacProcess(25.0, 2.0), TableSampler(KacProcess(25.0, 2.0))
    t = torch.rand(BATCH)
    slow, fast = in_turns(
        lambda: sampler.sample(t, pixels=PIXELS),
        lambda: process.sample_with_velocity(t, (BATCH, PIXELS)),
    )
    yield Measurement(
        "draws", "the table's batch", "ours, in steady state", *ratio(slow, fast), "times", ">= 3"
    )
    for name, reach in (("default", "<= 5"), ("34 M, KF", "<= 1")):
        step, draw = step_of(NETWORKS[name])
        whole, part = in_turns(step, draw, repeats=5 if name == "default" else 2, warm_up=1)
        shares = [100 * b / a for a, b in zip(whole, part, strict=True)]
        yield Measurement(
            "draws", f"draws of a training step, {name}", "the step", *spread(shares), "%", reach
        )


def _in_new_process(draw: str) -> list[dict[str, float]]:
    """Seconds and memory of the first batch in new processes, one entry for each."""
    code = PROGRAM.format(batch=BATCH, draw=draw.format(batch=BATCH, pixels=PIXELS))
    repeats = 3 if draw is OURS else 1
    command = [sys.executable, "-c", code]
    outputs = []
    for _ in range(repeats):
        process = subprocess.run(command, capture_output=True, text=True, check=True)
        outputs.append(json.loads(process.stdout))
    return outputs
