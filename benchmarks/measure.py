"""How things are timed and what a figure is."""

import os
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
EXPERIMENT = ROOT / "experiments" / "nfe_sweep.yaml"
WARM_UP = 3


@dataclass(frozen=True)
class Figure:
    """One line of the table: `value` of what, against what, with its lower and upper quartile, in
    `unit`; `reach` is what it should come to, as "<= 1.03" or ">= 3", empty where there is no such
    thing."""

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
        """Whether the value reaches what it should."""
        if not self.reach:
            return None
        sign, bound = self.reach.split()
        return self.value <= float(bound) if sign == "<=" else self.value >= float(bound)


def seconds(call: Callable[[], object]) -> float:
    """How long one call takes."""
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def in_turns(
    *calls: Callable[[], object], repeats: int = 15, warm_up: int = WARM_UP
) -> list[list[float]]:
    """Seconds of each call, taken in turns so that whatever else happens meets them all."""
    for _ in range(warm_up):
        for call in calls:
            call()
    rounds = [[seconds(call) for call in calls] for _ in range(repeats)]
    return [list(column) for column in zip(*rounds, strict=True)]


def ratio(over: list[float], under: list[float]) -> tuple[float, float, float]:
    """The median of the rounds' ratios, and its quartiles."""
    return spread([a / b for a, b in zip(over, under, strict=True)])


def environment(**more: str) -> dict[str, str]:
    """That of a command in another folder which uses this checkout."""
    return {**os.environ, "PYTHONPATH": str(ROOT), **more}


def spread(values: list[float]) -> tuple[float, float, float]:
    """Median, lower and upper quartile."""
    if len(values) == 1:
        return values[0], values[0], values[0]
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return middle, low, high
