"""What each figure shows, as plain numbers: the page and the PNGs draw the same."""

import json
import math
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

from orchestrator.plan.plan import Trial, plain
from orchestrator.plan.stage import Stage
from orchestrator.reports.aggregates import Results, SeedGroup, Spread, logarithmic, said
from orchestrator.store import layout
from orchestrator.store.stage_result import DamagedError
from orchestrator.sweeps.ranking import SMALL_IS_GOOD
from orchestrator.sweeps.teacher_fids import fids

# a setting with more values than this has an axis of numbers in place of one tick for each value
TICKS = 12
LINES = 14  # so many lines are told apart: every further one is gray
CURVES = 40  # loss curves of one kind at most
CURVE_POINTS = 100

# Okabe and Ito's colours, told apart by every eye, with markers that tell them apart in print
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
GRAY = "#BBBBBB"


@dataclass(frozen=True)
class Line:
    """Points (x, y with its spread) in the order of x; `prominent` lines are told apart by colour
    and marker."""

    label: str
    points: tuple[tuple[float, Spread], ...]
    student: bool = False
    prominent: bool = True


class Front(NamedTuple):
    """Measured settings, and those that no other one beats in both the metric and the time."""

    settings: list[SeedGroup]
    best: list[SeedGroup]


class Field(NamedTuple):
    """The best value of the metric for each pair of damping and speed, and how many settings that
    is the best of. `grid`: whether the pairs are the cells of a table and not points somewhere
    between."""

    values: dict[tuple[float, float], float]
    settings: int
    grid: bool


class Axis(NamedTuple):
    """One axis of parallel coordinates: where each setting is on it, and the ticks with their
    texts."""

    name: str
    values: list[float]
    ticks: list[float]
    texts: list[str]


def nfe_lines(results: Results, metric: str, features: str) -> list[Line]:
    """The metric against NFE, a line for every network: teachers first. Only the best lines are
    prominent."""
    found: dict[str, dict[int, list[Trial]]] = defaultdict(lambda: defaultdict(list))
    for trial in results.records.plan.trials:
        numbers = results.numbers(trial)
        if metric in numbers and "nfe" in numbers and results.features_of(trial) == features:
            found[results.line(trial)][int(numbers["nfe"])].append(trial)
    small = results.small_is_good if metric == results.metric else metric in SMALL_IS_GOOD
    lines = []
    for label, by_nfe in found.items():
        points = [
            (float(n), s)
            for n, trials in sorted(by_nfe.items())
            if (s := results.spread(trials, metric))
        ]
        lines.append(Line(label, tuple(points), label.startswith("student")))
    best = sorted(lines, key=lambda v: min(p.mean if small else -p.mean for _, p in v.points))[
        :LINES
    ]
    chosen = {line.label for line in best}
    lines.sort(key=lambda v: v.student)  # and in the order of the trials
    return [Line(v.label, v.points, v.student, v.label in chosen) for v in lines]


def field(results: Results, features: str) -> Field | None:
    """The best metric by damping and speed; None unless both are swept."""
    keys, sweep = ("path.damping", "path.speed"), results.records.plan.experiment.sweep
    measured = results.measured(features)
    if sweep is None or not measured or not all(key in measured[0].overrides for key in keys):
        return None
    cells: dict[tuple[float, float], list[float]] = defaultdict(list)
    for setting in measured:
        cells[setting.overrides[keys[0]], setting.overrides[keys[1]]].append(
            setting.values[results.metric].mean
        )
    grid = all(sweep.space[key].kind in ("grid", "choice") for key in keys)
    return Field(
        {pair: results.better(v) for pair, v in cells.items()}, max(map(len, cells.values())), grid
    )


def axes(results: Results, features: str) -> list[Axis]:
    """The axes of parallel coordinates, the metric last; none where there is nothing to compare."""
    measured = results.measured(features)
    keys = [k for k in (measured[0].overrides if measured else ()) if k in results.names]
    swept = [_axis(results.names[key], [s.overrides[key] for s in measured]) for key in keys]
    swept = [axis for axis in swept if len(set(axis.values)) > 1]
    if not swept:
        return []
    values = [s.values[results.metric].mean for s in measured]
    return [*swept, _numbers(said(results.metric), values, logarithmic(results.metric, values))]


def front(results: Results, features: str) -> Front | None:
    """The settings by seconds per image, fastest first, and the Pareto front among them."""
    sign, best = 1 if results.small_is_good else -1, list[SeedGroup]()

    def cost(setting: SeedGroup) -> tuple[float, float]:
        return setting.values["seconds_per_image"].mean, sign * setting.values[results.metric].mean

    settings = sorted(results.measured(features, "seconds_per_image"), key=cost)
    for setting in settings:
        if not best or cost(setting)[1] < cost(best[-1])[1]:
            best.append(setting)
    return Front(settings, best) if settings else None


def by_network(results: Results, settings: list[SeedGroup]) -> dict[str, list[SeedGroup]]:
    """The settings by the network that is sampled: teachers first, then in the order of the
    trials."""
    found: dict[str, list[SeedGroup]] = defaultdict(list)
    for setting in sorted(settings, key=lambda s: s.trials[0].index):
        found[results.network(setting.trials[0])].append(setting)
    return dict(sorted(found.items(), key=lambda item: item[0].startswith("student")))


def loss_curves(results: Results, kind: str) -> tuple[list[Line], int]:
    """The loss by training step of the finished stages of a kind, those of the best trials first,
    and how many finished stages there are in all: only so many are shown."""
    store, names = results.records.store, results.records.plan.names
    ranked = [trial for setting in results.settings for trial in setting.trials]
    stages = dict.fromkeys(
        s for t in ranked for s in t.chain if s.kind == kind and store.done(s.key)
    )
    best = {s.key for s in ranked[0].chain} if ranked else set()
    lines: list[Line] = []
    for stage in list(stages)[:CURVES]:
        points = _losses(results, stage)
        if points:
            lines.append(
                Line(
                    names[stage.key],
                    points,
                    kind == "student",
                    stage.key in best or len(lines) < LINES,
                )
            )
    return lines, len(stages)


def fid_curves(results: Results) -> dict[str, tuple[list[Line], int]]:
    """What teachers scored while they trained, also those that were stopped early, as
    `loss_curves`: those on each data set and each kind of features apart, under its name."""
    store, plan = results.records.store, results.records.plan
    ranked = [trial for setting in results.settings for trial in setting.trials]
    found: dict[str, dict[Stage, list[dict[str, float]]]] = defaultdict(dict)
    for trial in ranked:
        if scores := fids(store, trial):
            found[plan.on_data(trial.facts.features, trial)][trial.chain[0]] = scores
    return {scale: (_curves(scores, plan.names), len(scores)) for scale, scores in found.items()}


def _curves(found: dict[Stage, list[dict[str, float]]], names: dict[str, str]) -> list[Line]:
    return [
        Line(
            names[stage.key],
            tuple((p["step"], Spread(p["fid"])) for p in scores),
            False,
            number < LINES,
        )
        for number, (stage, scores) in enumerate(list(found.items())[:CURVES])
    ]


def ticks(low: float, high: float) -> list[float]:
    """Round numbers for a logarithmic axis from `low` to `high`: the wider it is the fewer within a
    decade."""
    subs: tuple[float, ...] = (1, 2, 5) if high > 20 * low else (1, 1.5, 2, 3, 4, 5, 7)
    if high < 4 * low:
        subs = (1, 1.2, 1.4, 1.6, 1.8, 2, 2.5, 3, 3.5, 4, 4.5, 5, 5.5, 6, 7, 8, 9)
    decades = range(math.floor(math.log10(low)), math.floor(math.log10(high)) + 1)
    found = [float(f"{sub * 10.0**d:.6g}") for d in decades for sub in subs]
    inside = [t for t in found if low * 0.95 <= t <= high * 1.05]
    return inside if len(inside) > 1 else sorted({float(f"{low:.3g}"), float(f"{high:.3g}")})


def wide(values: Iterable[float]) -> bool:
    """Whether numbers lie so far apart that their axis should be logarithmic."""
    low, high = min(values := list(values)), max(values)
    return low > 0 and high >= 30 * low


def _axis(name: str, values: list[Any]) -> Axis:
    """Few values, or any that is no number, get a tick each, in order; many numbers an axis of
    numbers."""
    distinct = list({json.dumps(v): v for v in values}.values())
    numbers = [v for v in distinct if isinstance(v, int | float) and not isinstance(v, bool)]
    if len(numbers) == len(distinct) > TICKS:
        return _numbers(name, values, wide(numbers))
    others = [v for v in distinct if v not in numbers or isinstance(v, bool)]
    order = [json.dumps(v) for v in (*sorted(numbers), *others)]
    shown = range(
        0, len(order), -(-len(order) // (2 * TICKS))
    )  # more texts than that would lie upon each other
    texts = [_shortened(plain(json.loads(order[i]))) for i in shown]
    return Axis(
        name, [float(order.index(json.dumps(v))) for v in values], [float(i) for i in shown], texts
    )


def _numbers(name: str, values: list[float], log: bool) -> Axis:
    """An axis from the lowest to the highest of `values`, both of which have a tick."""
    low, high = float(min(values)), float(max(values))
    place = math.log10 if log else float
    between = ticks(low, high) if log else [low + (high - low) * i / 5 for i in range(1, 5)]
    apart = 0.05 * (place(high) - place(low))
    inner = [t for t in between if place(low) + apart < place(t) < place(high) - apart]
    at = sorted({low, *inner, high})
    return Axis(name, [place(v) for v in values], [place(t) for t in at], [f"{t:.3g}" for t in at])


def _shortened(text: str, length: int = 24) -> str:
    return text if len(text) <= length else f"{text[: length - 1]}…"


def _losses(results: Results, stage: Stage) -> tuple[tuple[float, Spread], ...]:
    try:
        noted = results.records.store.result(stage.key).json(layout.LOSSES)
    except DamagedError as e:
        results.records.damaged |= e.problems
        return ()
    except (OSError, ValueError, KeyError):
        return ()
    every = max(1, len(noted) // CURVE_POINTS)
    kept = [*noted[:-1:every], *noted[-1:]]
    return tuple(
        (float(p["step"]), Spread(float(f"{p['loss']:.4g}")))
        for p in kept
        if math.isfinite(p["loss"])
    )
