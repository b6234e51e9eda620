"""The data of each figure, as plain numbers: the page and the PNGs plot the same."""

import json
import math
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from orchestrator.fields.field_types import COSTS, SMALL_IS_GOOD
from orchestrator.plan.plan import Trial, plain
from orchestrator.plan.stage import Stage
from orchestrator.reports.aggregates import Results, SeedGroup, Spread, display_name, is_logarithmic
from orchestrator.reports.importances import estimated
from orchestrator.store import layout
from orchestrator.store.stage_result import DamagedError
from orchestrator.sweeps.measured import STEPS
from orchestrator.sweeps.ranking import Progress, is_drawn, progress
from orchestrator.sweeps.training_fids import fids
from orchestrator.sweeps.verdict import TIE

# a setting with more values than this has a numeric axis instead of one tick for each value
TICKS = 12
DAMPING_SPEED = ("path.damping", "path.speed")
LINES = 14  # coloured lines; all further ones are gray
CURVES = 40  # loss curves of one kind at most
LOWEST = 1e-3  # of a band, as a share of its mean: an axis may be logarithmic
CURVE_POINTS = 50  # of a loss curve: each is a mean, so that noise does not hide the course
FEWEST, FEW = 8, 30  # measured settings from which importances are estimated; with which roughly

# Okabe and Ito's colours, which colour-blind readers can distinguish; markers distinguish them in print
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
GRAY = "#BBBBBB"

NFE = "network evaluations per image (NFE)"
COST_TITLES = {"nfe": NFE, "seconds_per_image": "seconds per image, as measured"}


@dataclass(frozen=True)
class Line:
    """Points (x, y with its spread) in the order of x; `prominent` lines have a colour and a marker
    of their own."""

    label: str
    points: tuple[tuple[float, Spread], ...]
    student: bool = False
    prominent: bool = True

    @property
    def band(self) -> tuple[list[float], list[float]] | None:
        """Mean less and plus the standard deviation between training seeds, above zero where the mean
        is; None for a gray line, and where a point has one seed."""
        spreads = [spread for _, spread in self.points]
        if not self.prominent or len(spreads) < 2 or any(spread.trials < 2 for spread in spreads):
            return None
        lows = [max(s.mean - s.std, LOWEST * s.mean if s.mean > 0 else -math.inf) for s in spreads]
        return lows, [s.mean + s.std for s in spreads]


class ParetoFront(NamedTuple):
    """Measured groups, and the `best`: those that no other beats in both metric and `cost`, which is
    drawn by its logarithm if `log`."""

    cost: str
    log: bool
    groups: list[SeedGroup]
    best: list[SeedGroup]


class TwoSettings(NamedTuple):
    """The best value of the metric for each pair of values of two swept settings, `names`, and the
    largest number of groups with one pair. `grid`: whether the pairs form a grid. `ties`: the pairs
    whose best cannot be told from the best of all, with as many steps."""

    names: tuple[str, str]
    values: dict[tuple[float, float], float]
    group_count: int
    grid: bool
    ties: frozenset[tuple[float, float]]

    @property
    def figure(self) -> str:
        """The name of the figure, such as damping_speed."""
        return "_".join(self.names)


class ParallelAxis(NamedTuple):
    """One axis of parallel coordinates: the position of each group, and the ticks with their
    texts."""

    name: str
    values: list[float]
    ticks: list[float]
    texts: list[str]


class Importances(NamedTuple):
    """The share of each setting in the variance of the metric, or of its logarithm, largest first, as
    estimated from `measured` settings; `left_out`: settings that not all of them have."""

    shares: dict[str, float]
    measured: int
    log: bool
    left_out: list[str]


def nfe_lines(results: Results, metric: str, features: str) -> list[Line]:
    """The metric against NFE, a line for every network: teachers first, then in the order of the
    trials. Only the best lines are prominent. None if all have the same NFE: one column of dots."""
    by_label: dict[str, dict[int, list[Trial]]] = defaultdict(lambda: defaultdict(list))
    for trial in results.records.plan.trials:
        numbers = results.numbers(trial)
        if metric in numbers and "nfe" in numbers and results.features_of(trial) == features:
            by_label[results.line_label(trial)][int(numbers["nfe"])].append(trial)
    if len({nfe for by_nfe in by_label.values() for nfe in by_nfe}) < 2:
        return []
    lines = []
    for label, by_nfe in by_label.items():
        points = []
        for nfe, trials in sorted(by_nfe.items()):
            spread = results.spread(trials, metric)
            assert spread is not None, "each of them measured it"
            points.append((float(nfe), spread))
        lines.append(Line(label, tuple(points), label.startswith("student")))
    small = results.small_is_good if metric == results.metric else metric in SMALL_IS_GOOD

    def best_value(line: Line) -> float:
        return min(spread.mean if small else -spread.mean for _, spread in line.points)

    prominent = {line.label for line in sorted(lines, key=best_value)[:LINES]}
    lines.sort(key=lambda line: line.student)
    return [replace(line, prominent=line.label in prominent) for line in lines]


def two_settings(results: Results, features: str) -> TwoSettings | None:
    """The best value of the metric by damping and speed or, where these are not swept, by the only
    two swept numbers other than seed and steps; None if there are no two."""
    sweep = results.records.plan.experiment.sweep
    measured = results.measured(features)
    keys = _two_keys(measured)
    if sweep is None or keys is None:
        return None
    cells: dict[tuple[float, float], list[SeedGroup]] = defaultdict(list)
    for group in measured:
        one, two = (group.overrides[key] for key in keys)
        if one is not None and two is not None:  # other kinds may have neither
            cells[one, two].append(group)
    if not cells:
        return None
    best = {pair: groups[0] for pair, groups in cells.items()}  # groups are ranked
    values = {pair: group.values[results.metric].mean for pair, group in best.items()}
    steps = measured[0].trials[0].config.sampling.steps
    ties = frozenset(
        pair
        for pair, group in best.items()
        if group is not measured[0]
        and group.trials[0].config.sampling.steps == steps
        and results.ranks.get(group.trials[0].index) == TIE
    )
    grid = all(sweep.space[key].kind in ("grid", "choice") for key in keys)
    one, two = (results.names[key] for key in keys)
    return TwoSettings((one, two), values, max(map(len, cells.values())), grid, ties)


def _two_keys(groups: list[SeedGroup]) -> tuple[str, str] | None:
    if not groups:
        return None
    swept = groups[0].overrides
    if all(key in swept for key in DAMPING_SPEED):
        return DAMPING_SPEED
    numbers = [key for key in swept if key != STEPS and _varying_numbers(groups, key)]
    if len(numbers) != 2:
        return None
    one, two = numbers
    return one, two


def _varying_numbers(groups: list[SeedGroup], key: str) -> bool:
    """Whether the groups have several values of `key`, all of them numbers, that nothing implies."""
    values = [g.overrides[key] for g in groups if key in g.trials[0].shown_overrides]
    numbers = all(isinstance(v, int | float) and not isinstance(v, bool) for v in values)
    return numbers and len(set(values)) > 1


def parallel_axes(results: Results, features: str) -> list[ParallelAxis]:
    """The axes of parallel coordinates, the metric last; none if nothing varies."""
    measured = results.measured(features)
    keys = [k for k in (measured[0].overrides if measured else ()) if k in results.names]
    sweep = results.records.plan.experiment.sweep
    space = {} if sweep is None else sweep.space
    swept = [
        _axis(
            results.names[key],
            [s.overrides[key] for s in measured],
            key in space and space[key].kind == "loguniform",
        )
        for key in keys
        if any(key not in s.trials[0].implied for s in measured)
    ]
    swept = [axis for axis in swept if len(set(axis.values)) > 1]
    if not swept:
        return []
    values = [s.values[results.metric].mean for s in measured]
    log = is_logarithmic(results.metric, values)
    return [*swept, _numeric_axis(display_name(results.metric), values, log)]


def pareto_front(results: Results, features: str) -> ParetoFront | None:
    """The groups by cost (see `Results.cost`), cheapest first, and the Pareto front among them; None
    where all have the same cost."""
    name, small_is_good = results.cost
    sign, best = 1 if results.small_is_good else -1, list[SeedGroup]()
    cost_sign = 1 if small_is_good else -1

    def cost(group: SeedGroup) -> tuple[float, float]:
        return cost_sign * group.values[name].mean, sign * group.values[results.metric].mean

    groups = sorted(results.measured(features, name), key=cost)
    for group in groups:
        if not best or cost(group)[1] < cost(best[-1])[1]:
            best.append(group)
    costs = {group.values[name].mean for group in groups}
    log = name in COSTS or is_logarithmic(name, costs)
    return ParetoFront(name, log, groups, best) if len(costs) > 1 else None


def search_progress(results: Results, features: str) -> list[Progress]:
    """What a search has found, trial by trial; none unless points are drawn and several measured."""
    if not is_drawn(results.records):
        return []
    found = [p for p in progress(results.records).get(features, []) if math.isfinite(p.value)]
    return found if len(found) > 1 else []


def importances(results: Results, features: str) -> Importances | None:
    """How much of the spread of the metric each swept setting explains, estimated from the drawn
    settings; None where these are too few, or none of them matters."""
    sweep = results.records.plan.experiment.sweep
    if sweep is None or not is_drawn(results.records):
        return None
    groups = results.measured(features)
    values = [group.values[results.metric].mean for group in groups]
    if len(groups) < FEWEST or len(set(values)) < 2:
        return None
    log = is_logarithmic(results.metric, values)
    numbers = [math.log(value) for value in values] if log else values
    shares, left = estimated(sweep.space, [g.overrides for g in groups], numbers)
    names = {results.names[key]: share for key, share in shares.items()}
    return (
        Importances(names, len(groups), log, [results.names[key] for key in left])
        if names
        else None
    )


def importances_note(found: Importances, metric: str) -> str:
    """What the shares are, and of how many settings; `metric`: its display name."""
    what = f"the logarithm of {metric}" if found.log else metric
    note = (
        f"The share of each setting in the variance of {what} (fANOVA, a random forest), estimated "
    )
    note += f"from {found.measured} measured settings"
    if found.measured < FEW:
        note += ": so few give a rough order at most"
    if found.left_out:
        note += f"; without {', '.join(found.left_out)}, which not all of them have"
    return f"{note}. Interactions are not shown, so the shares may add up to less than 1."


def floor(results: Results, metric: str, features: str) -> float | None:
    """The FID of a perfect model with as many images; None for another metric, or where it was not
    measured."""
    if metric != "fid":
        return None
    groups = [group for group in results.groups if group.features == features]
    known = [group.values["fid_of_real"].mean for group in groups if "fid_of_real" in group.values]
    return sum(known) / len(known) if known else None


def by_network(results: Results, groups: list[SeedGroup]) -> dict[str, list[SeedGroup]]:
    """The groups by the network that is sampled: teachers first, then in the order of the
    trials."""
    by_label: dict[str, list[SeedGroup]] = defaultdict(list)
    for group in sorted(groups, key=lambda g: g.trials[0].index):
        by_label[results.network_label(group.trials[0])].append(group)
    return dict(sorted(by_label.items(), key=lambda item: item[0].startswith("student")))


def loss_curves(results: Results, kind: str) -> tuple[list[Line], int]:
    """The loss by training step of the finished stages of a kind, at most CURVES, those of the best
    trials first; and the number of all finished stages of this kind."""
    store, names = results.records.store, results.records.plan.names
    ranked = [trial for group in results.groups for trial in group.trials]
    stages = dict.fromkeys(
        s for t in ranked for s in t.chain if s.kind == kind and s.steps and store.done(s.key)
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
    """The FIDs of networks during their training, also of those that were stopped early. For each
    data set and feature extractor, by name, as `loss_curves`."""
    store, plan = results.records.store, results.records.plan
    ranked = [trial for group in results.groups for trial in group.trials]
    by_scale: dict[str, dict[Stage, list[dict[str, float]]]] = defaultdict(dict)
    for trial in ranked:
        for stage in trial.chain:
            if scores := fids(store, stage.key):
                by_scale[plan.on_data(trial.facts.features, trial)][stage] = scores
    return {
        scale: (_curves(by_stage, plan.names), len(by_stage))
        for scale, by_stage in by_scale.items()
    }


def _curves(by_stage: dict[Stage, list[dict[str, float]]], names: dict[str, str]) -> list[Line]:
    lines = []
    for number, (stage, scores) in enumerate(list(by_stage.items())[:CURVES]):
        points = tuple((score["step"], Spread(score["fid"])) for score in scores)
        lines.append(Line(names[stage.key], points, prominent=number < LINES))
    return lines


def ticks(low: float, high: float) -> list[float]:
    """Round numbers for a logarithmic axis from `low` to `high`: the wider the range, the fewer in
    a decade."""
    subs: tuple[float, ...] = (1, 2, 5) if high > 20 * low else (1, 1.5, 2, 3, 4, 5, 7)
    if high < 4 * low:
        subs = (1, 1.2, 1.4, 1.6, 1.8, 2, 2.5, 3, 3.5, 4, 4.5, 5, 5.5, 6, 7, 8, 9)
    decades = range(math.floor(math.log10(low)), math.floor(math.log10(high)) + 1)
    candidates = [float(f"{sub * 10.0**d:.6g}") for d in decades for sub in subs]
    inside = [t for t in candidates if low * 0.95 <= t <= high * 1.05]
    return inside if len(inside) > 1 else sorted({float(f"{low:.3g}"), float(f"{high:.3g}")})


def spans_decades(values: Iterable[float]) -> bool:
    """Whether positive numbers span a factor of 30, so that their axis should be logarithmic."""
    numbers = list(values)
    low, high = min(numbers), max(numbers)
    return low > 0 and high >= 30 * low


def _axis(name: str, values: list[Any], drawn_log: bool = False) -> ParallelAxis:
    """Numbers get a numeric axis, logarithmic where they were drawn so (`drawn_log`) or span
    decades; of other values each gets a tick of its own."""
    distinct = list({json.dumps(v): v for v in values}.values())
    numbers = [v for v in distinct if isinstance(v, int | float) and not isinstance(v, bool)]
    if len(numbers) == len(distinct):
        return _numeric_axis(
            name, values, min(numbers) > 0 and (drawn_log or spans_decades(numbers))
        )
    others = [v for v in distinct if v not in numbers or isinstance(v, bool)]
    order = [json.dumps(v) for v in (*sorted(numbers), *others)]
    every = -(-len(order) // (2 * TICKS))  # more texts would overlap
    shown = range(0, len(order), every)
    texts = [_shortened(plain(json.loads(order[i]))) for i in shown]
    positions = [float(order.index(json.dumps(v))) for v in values]
    return ParallelAxis(name, positions, [float(i) for i in shown], texts)


def _numeric_axis(name: str, values: list[float], log: bool) -> ParallelAxis:
    """An axis from the lowest to the highest of `values`: a tick at each of few values, else at both
    ends and at round numbers between."""
    low, high = float(min(values)), float(max(values))
    position = math.log10 if log else float
    few = sorted({float(v) for v in values})
    if len(few) > TICKS:
        few = ticks(low, high) if log else [low + (high - low) * i / 5 for i in range(1, 5)]
    margin = 0.05 * (position(high) - position(low))
    at = [low]
    for tick in few:  # texts that are nearer would overlap
        if position(at[-1]) + margin < position(tick) < position(high) - margin:
            at.append(tick)
    at = sorted({*at, high})
    texts = [f"{t:.3g}" for t in at]
    return ParallelAxis(name, [position(v) for v in values], [position(t) for t in at], texts)


def _shortened(text: str, length: int = 24) -> str:
    return text if len(text) <= length else f"{text[: length - 1]}…"


def _losses(results: Results, stage: Stage) -> tuple[tuple[float, Spread], ...]:
    try:
        points = results.records.store.result(stage.key).json(layout.LOSSES)
    except DamagedError as e:
        results.records.damaged |= e.problems
        return ()
    except (OSError, ValueError, KeyError):
        return ()
    every = max(1, -(-len(points) // CURVE_POINTS))  # of weights trained elsewhere there are none
    curve = []
    for i in range(0, len(points), every):
        part = points[i : i + every]
        losses = [p["loss"] for p in part if math.isfinite(p["loss"])]
        if losses:
            mean = sum(losses) / len(losses)
            curve.append((float(part[-1]["step"]), Spread(float(f"{mean:.4g}"))))
    return tuple(curve)
