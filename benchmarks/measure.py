"""Timing, and the record of one measurement."""

import os
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
EXPERIMENT = ROOT / "experiments" / "nfe_sweep.yaml"
WARM_UP = 3
ONCE = "BENCHMARKS_ONCE"  # if set, calls are timed once and without a warm-up


@dataclass(frozen=True)
class Measurement:
    """One line of the table: the `value` of `what`, relative to `against`, with its lower and upper
    quartile, in `unit`; `reach` is the target, such as "<= 1.03" or ">= 3", empty for none."""

    part: str
    what: str
    against: str
    value: float
    low: float
    high: float
    unit: str = ""
    reach: str = ""

    @property
    def met(self) -> bool | None:
        """Whether the value reaches its target; None without a target."""
        if not self.reach:
            return None
        sign, bound = self.reach.split()
        return self.value <= float(bound) if sign == "<=" else self.value >= float(bound)


def seconds(call: Callable[[], object]) -> float:
    """The duration of one call."""
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def in_turns(
    *calls: Callable[[], object], repeats: int = 15, warm_up: int = WARM_UP
) -> list[list[float]]:
    """Seconds of each call, measured in turns so that other load affects all calls alike."""
    if ONCE in os.environ:
        repeats, warm_up = 1, 0
    for _ in range(warm_up):
        for call in calls:
            call()
    rounds = [[seconds(call) for call in calls] for _ in range(repeats)]
    return [list(column) for column in zip(*rounds, strict=True)]


def ratio(over: list[float], under: list[float]) -> tuple[float, float, float]:
    """The median of the rounds' ratios, with lower and upper quartile."""
    return spread([a / b for a, b in zip(over, under, strict=True)])


def environment(**more: str) -> dict[str, str]:
    """The environment of a command that runs in another folder and uses this checkout."""
    return {**os.environ, "PYTHONPATH": str(ROOT), **more}


def spread(values: list[float]) -> tuple[float, float, float]:
    """Median, lower and upper quartile."""
    if len(values) == 1:
        return values[0], values[0], values[0]
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return middle, low, high
