"""The Pareto front of a sweep by several metrics: the settings that no other beats in all of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from orchestrator.sweeps.intervals import Interval, Intervals
from orchestrator.sweeps.measured import RATIOS, Setting, sample_of
from orchestrator.sweeps.records import Records

ON, NEAR = "front", "tie"


@dataclass(frozen=True)
class FrontPoint:
    """A setting on the front, or one that cannot be told from it. `values`: each metric with its
    interval. `rank`: ON, or NEAR where another is better, but in nothing beyond noise."""

    setting: str
    trials: list[int]
    values: dict[str, Interval]
    rank: str

    def text(self) -> str:
        """The setting and its values in one line."""
        values = ", ".join(f"{name} {text}" for name, text in self.texts().items())
        near = " (tie: beaten by nothing beyond noise)" if self.rank == NEAR else ""
        return f"{self.setting}: {values}{near}"

    def texts(self) -> dict[str, str]:
        """Each metric's value as text; without an interval where it has no noise, such as NFE."""
        return {
            name: f"{value.value:g}" if name == "nfe" else value.text()
            for name, value in self.values.items()
        }


def front(
    records: Records, settings: Sequence[Setting], objectives: Mapping[str, bool]
) -> list[FrontPoint]:
    """The front of `settings`, which are on one scale, by `objectives`, metrics with whether a small
    value is good, in the order of the last of them, best first. Settings that lack one of the
    metrics are left out."""
    measured = [setting for setting in settings if _has_all(records, setting, objectives)]
    axes = [_Axis(records, measured, *objective) for objective in objectives.items()]
    found = []
    for number, setting in enumerate(measured):
        others = [other for other in range(len(measured)) if other != number]
        if not any(_beats(axes, other, number) for other in others):
            rank = ON
        elif not any(_beats(axes, other, number, beyond_noise=True) for other in others):
            rank = NEAR
        else:
            continue
        values = {axis.name: axis.level(number) for axis in axes}
        trials = [trial.index for trial in setting.trials]
        found.append((number, FrontPoint(setting.full_name, trials, values, rank)))
    found.sort(key=lambda each: [axis.cost(each[0]) for axis in reversed(axes)])
    return [point for _, point in found]


def _has_all(records: Records, setting: Setting, names: Mapping[str, bool]) -> bool:
    measured = [records.measured(trial) for trial in setting.trials]
    return all(values.get(name) is not None for values in measured for name in names)


def _beats(axes: "Sequence[_Axis]", one: int, other: int, beyond_noise: bool = False) -> bool:
    """Whether a setting is in nothing worse than another, and in something better."""
    if any(axis.better(other, one) for axis in axes):
        return False
    return any(
        axis.surely_better(one, other) if beyond_noise else axis.better(one, other) for axis in axes
    )


class _Axis:
    """One metric of all settings, which are named by their numbers."""

    def __init__(
        self, records: Records, settings: Sequence[Setting], name: str, small_is_good: bool
    ) -> None:
        self.name = name
        self._sign = 1 if small_is_good else -1
        self._samples = [sample_of(records, setting.trials, name) for setting in settings]
        self._intervals = Intervals(
            self._samples, ratios=name in RATIOS, small_is_good=small_is_good
        )
        self._costs = [self._sign * self.level(number).value for number in range(len(settings))]

    def level(self, number: int) -> Interval:
        return self._intervals.level(self._samples[number])

    def cost(self, number: int) -> float:
        """The mean over the seeds, small where it is good."""
        return self._costs[number]

    def better(self, one: int, other: int) -> bool:
        return self.cost(one) < self.cost(other)

    def surely_better(self, one: int, other: int) -> bool:
        """Better, and no tie; where nothing is known of the noise, better."""
        if not self.better(one, other):
            return False
        return not self._intervals.tied(self._samples[one], self._samples[other])
