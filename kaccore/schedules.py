"""Schedules: the signal f(t) that scales the data and the clock g(t) that the noise runs on, t in
[0, 1].

Each returns its value and its derivative together (arXiv 2506.20641, section 4; the table of
`docs/method.md`)."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor


class ScheduleValue(NamedTuple):
    """A schedule's `value` and its `derivative` in t, both shaped as t."""

    value: Tensor
    derivative: Tensor


Schedule = Callable[[Tensor], ScheduleValue]


def linear_signal(t: Tensor) -> ScheduleValue:
    """f(t) = 1 - t: all data at t = 0, none at t = 1."""
    return ScheduleValue(1 - t, -torch.ones_like(t))


def exponential_signal(t: Tensor) -> ScheduleValue:
    """f(t) = exp(-t): a share 1/e of the data is still there at t = 1, so the prior has to know the
    data."""
    decay = torch.exp(-t)
    return ScheduleValue(decay, -decay)


def linear_clock(t: Tensor) -> ScheduleValue:
    """g(t) = t: noise time is time."""
    return ScheduleValue(t, torch.ones_like(t))


def quadratic_clock(t: Tensor) -> ScheduleValue:
    """g(t) = t^2: noise time starts slowly and ends at g(1) = 1."""
    return ScheduleValue(t.square(), 2 * t)


SIGNALS: dict[str, Schedule] = {"linear": linear_signal, "exponential": exponential_signal}
CLOCKS: dict[str, Schedule] = {"linear": linear_clock, "quadratic": quadratic_clock}


def lookup(table: dict[str, Schedule], name: str, what: str) -> Schedule:
    """`table[name]`; raises ValueError that lists the names there are."""
    if name not in table:
        raise ValueError(f"{what} = {name!r}: expected one of {', '.join(table)}")
    return table[name]
