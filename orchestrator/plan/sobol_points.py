"""Points that cover a sweep's space evenly: a Sobol sequence, scrambled with the experiment's seed.

The points are the same for the same seed and space, and more of them begin with the same ones. A
point that a constraint leaves out, or that was drawn before, is passed over: the next of the
sequence takes its place."""

import math
import warnings
from collections.abc import Iterator
from typing import Any

from scipy.stats import qmc

from orchestrator.plan.points import Expansion, Point, PointSpace, rounded
from orchestrator.settings.entries import SpaceEntry

LOG = "loguniform"


def add_all(space: PointSpace, found: Expansion) -> None:
    """Add points of the sequence until `found` has `num_trials`, or all points of the space."""
    assert space.sweep.num_trials is not None
    points = _sequence(space)
    while len(found.points) < space.sweep.num_trials and space.add_first(points, found):
        pass


def _sequence(space: PointSpace) -> Iterator[Point]:
    sobol = qmc.Sobol(len(space.drawn), scramble=True, rng=space.seed)
    while True:
        with warnings.catch_warnings():
            # that a number of points which is no power of two is not balanced
            warnings.simplefilter("ignore", UserWarning)
            (shares,) = sobol.random(1)
        entries = zip(space.drawn.items(), shares, strict=True)
        yield {key: _value(entry, float(share)) for (key, entry), share in entries}


def _value(entry: SpaceEntry, share: float) -> Any:
    """The value of `entry` below which lies this `share` of it, in [0, 1)."""
    if entry.kind == "choice":
        return entry.values[math.floor(share * len(entry.values))]
    low, high = entry.values
    if entry.kind == "int":
        return low + math.floor(share * (high - low + 1))
    if entry.kind == LOG:
        return rounded(entry, math.exp(math.log(low) + share * math.log(high / low)))
    return rounded(entry, low + share * (high - low))
