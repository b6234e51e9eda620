"""The panels of the PNG figures: each plots the results on one feature extractor, on matplotlib axes."""

import math
import textwrap
from collections.abc import Callable
from typing import Any

from orchestrator.reports import figure_data
from orchestrator.reports.aggregates import Results, SeedGroup, display_name, is_logarithmic
from orchestrator.reports.figure_data import COLOURS, GRAY, Line

MARKERS = ("o", "s", "^", "D", "v", "P", "X")
DASHES = ("-", "--", ":", "-.")
SCALE = "cividis"

# plots on axes the results on some features; returns False if there is nothing to plot
PlotPanel = Callable[[Any, Results, str], bool]


def against_nfe(metric: str) -> PlotPanel:
    def plot(axes: Any, results: Results, features: str) -> bool:
        lines = figure_data.nfe_lines(results, metric, features)
        if not lines:
            return False
        plot_lines(axes, lines, markers=True)
        axes.set_xscale("log")
        nfe = sorted({x for line in lines for x, _ in line.points})
        axes.set_xticks(nfe, [f"{n:g}" for n in nfe])
        label_metric_axis(axes, metric, [p.mean for line in lines for _, p in line.points])
        axes.set_xlabel(figure_data.NFE)
        _draw_floor(axes, results, metric, features)
        return True

    return plot


def two_settings(axes: Any, results: Results, features: str) -> bool:
    from matplotlib.colors import LogNorm, Normalize

    best = figure_data.two_settings(results, features)
    if best is None:
        return False
    numbers = list(best.values.values())
    log = is_logarithmic(results.metric, numbers)
    highest = max(numbers) * (1.01 if len(set(numbers)) == 1 else 1)
    norm = (LogNorm if log else Normalize)(min(numbers), highest)
    if best.grid:
        plotted = _heat_map(axes, best, norm)
    else:
        x, y = zip(*best.values, strict=True)
        plotted = axes.scatter(
            x, y, c=numbers, norm=norm, cmap=SCALE, edgecolors="black", linewidths=0.5
        )
        if best.ties:
            axes.scatter(*zip(*best.ties, strict=True), marker="+", color="black", linewidths=0.8)
        for set_scale, at in ((axes.set_xscale, x), (axes.set_yscale, y)):
            set_scale("log" if figure_data.spans_decades(at) else "linear")
    label = f"{display_name(results.metric)}, the best with this pair"
    bar = axes.figure.colorbar(plotted, ax=axes, label=label)
    if log:
        marks = [
            t
            for t in figure_data.ticks(min(numbers), max(numbers))
            if min(numbers) <= t <= max(numbers)
        ]
        bar.set_ticks(marks, labels=[f"{t:g}" for t in marks])
        bar.minorticks_off()
    axes.set_xlabel(best.names[0])
    axes.set_ylabel(best.names[1])
    return True


def _heat_map(axes: Any, best: figure_data.TwoSettings, norm: Any) -> Any:
    """A cell for each pair; hatched where it cannot be told from the best."""
    from matplotlib.patches import Rectangle

    one, two = (sorted({pair[i] for pair in best.values}) for i in (0, 1))
    table = [[best.values.get((d, s), math.nan) for d in one] for s in two]
    image = axes.imshow(table, norm=norm, cmap=SCALE, origin="lower", aspect="auto")
    axes.set_xticks(range(len(one)), [f"{d:g}" for d in one])
    axes.set_yticks(range(len(two)), [f"{s:g}" for s in two])
    for (d, s), value in best.values.items():
        x, y = one.index(d), two.index(s)
        if (d, s) in best.ties:
            hatched: dict[str, Any] = {
                "fill": False,
                "hatch": "//",
                "edgecolor": "white",
                "linewidth": 0,
            }
            axes.add_patch(Rectangle((x - 0.5, y - 0.5), 1, 1, **hatched))
        colour = "white" if norm(value) < 0.5 else "black"
        axes.text(x, y, f"{value:.3g}", ha="center", va="center", color=colour)
    return image


def parallel(axes: Any, results: Results, features: str) -> bool:
    from matplotlib import colormaps

    columns = figure_data.parallel_axes(results, features)
    if not columns:
        return False

    def height(column: figure_data.ParallelAxis, value: float) -> float:
        everything = [*column.values, *column.ticks]
        low, high = min(everything), max(everything)
        return (value - low) / ((high - low) or 1)

    heights = []
    for row in zip(*(column.values for column in columns), strict=True):
        heights.append([height(c, value) for c, value in zip(columns, row, strict=True)])
    for line in sorted(heights, key=lambda h: h[-1], reverse=results.small_is_good):
        shade = line[-1] if results.small_is_good else 1 - line[-1]
        colour = colormaps[SCALE](shade)
        axes.plot(range(len(columns)), line, color=colour, linewidth=1.2, alpha=0.8)
    box = {"facecolor": "white", "alpha": 0.7, "linewidth": 0, "pad": 1}
    style: dict[str, Any] = {"va": "center", "fontsize": 7, "bbox": box, "parse_math": False}
    for i, column in enumerate(columns):
        axes.axvline(i, color="black", linewidth=0.8)
        for tick, text in zip(column.ticks, column.texts, strict=True):
            axes.text(i, height(column, tick), f" {text}", **style)
    axes.set_xticks(range(len(columns)), [column.name for column in columns])
    axes.set_yticks([])
    return True


def progress(axes: Any, results: Results, features: str) -> bool:
    steps = figure_data.search_progress(results, features)
    if not steps:
        return False
    x, values = [step.trial for step in steps], [step.value for step in steps]
    axes.scatter(x, values, s=14, color=COLOURS[0], label="trial")
    best = [step.best for step in steps]
    axes.step(x, best, where="post", color=COLOURS[1], linewidth=1.6, label="best so far")
    label_metric_axis(axes, results.metric, values)
    axes.set_xlabel("trial")
    axes.grid(True, which="major", alpha=0.3)
    axes.legend(frameon=False, fontsize=8)
    return True


def importances(axes: Any, results: Results, features: str) -> bool:
    found = figure_data.importances(results, features)
    if found is None:
        return False
    names = [*found.shares]
    bars = axes.barh(range(len(names)), [*found.shares.values()], color=COLOURS[0])
    axes.bar_label(bars, fmt="%.2f", padding=3, fontsize=8)
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    axes.set_xlim(0, 1)
    note = figure_data.importances_note(found, display_name(results.metric))
    text = textwrap.fill(note, 80)
    axes.set_xlabel(f"share of the variance\n{text}", fontsize=8, parse_math=False)
    return True


def pareto(axes: Any, results: Results, features: str) -> bool:
    front = figure_data.pareto_front(results, features)
    if front is None:
        return False
    _plot_groups(axes, results, front.groups, front.cost)
    x = [s.values[front.cost].mean for s in front.best]
    y = [s.values[results.metric].mean for s in front.best]
    axes.step(x, y, where="post", color="black", linewidth=1.2, label="Pareto front", zorder=1)
    if front.log:
        axes.set_xscale("log")
    if front.cost == "nfe":
        nfe = sorted({group.values["nfe"].mean for group in front.groups})
        axes.set_xticks(nfe, [f"{n:g}" for n in nfe])
        axes.minorticks_off()
    axes.set_xlabel(figure_data.COST_TITLES.get(front.cost, display_name(front.cost)))
    axes.legend(frameon=False, fontsize=8)
    _draw_floor(axes, results, results.metric, features)
    return True


def energy(axes: Any, results: Results, features: str) -> bool:
    groups = results.measured(features, "kinetic_path_energy")
    if groups:
        _plot_groups(axes, results, groups, "kinetic_path_energy")
        axes.set_xlabel("kinetic path energy")
        _draw_floor(axes, results, results.metric, features)
    return bool(groups)


def _draw_floor(axes: Any, results: Results, metric: str, features: str) -> None:
    """A dotted line at the FID of a perfect model, if that is known."""
    value = figure_data.floor(results, metric, features)
    if value is not None:
        axes.axhline(value, color="#444444", linestyle=":", linewidth=1)
        text = f"a perfect model: {value:.3g}"
        at = {"xycoords": axes.get_yaxis_transform(), "xytext": (0, 3)}
        axes.annotate(text, (0.01, value), textcoords="offset points", fontsize=7, **at)


def plot_lines(axes: Any, lines: list[Line], markers: bool) -> None:
    """Prominent lines in colour, the others gray below them; students solid, teachers dashed."""
    count = 0
    for line in sorted(lines, key=lambda line: line.prominent):
        x, spread = [x for x, _ in line.points], [p.std for _, p in line.points]
        style: dict[str, Any] = {"color": GRAY, "linewidth": 0.7}
        if line.prominent:
            label = line.label.replace("$", r"\$")
            style = {"color": COLOURS[count % len(COLOURS)], "linewidth": 1.6, "label": label}
            turn = count // len(COLOURS)  # colours are used again with another marker or dash
            if markers:
                style |= {"marker": MARKERS[turn % len(MARKERS)], "markersize": 5}
            else:
                style["linestyle"] = DASHES[turn % len(DASHES)]
            count += 1
        if (band := line.band) is not None:
            axes.fill_between(x, *band, color=style["color"], alpha=0.15, linewidth=0)
        axes.errorbar(
            x,
            [p.mean for _, p in line.points],
            yerr=spread if any(spread) else None,
            capsize=3,
            **({"linestyle": "-" if line.student or not markers else "--"} | style),
        )
    axes.grid(True, which="major", alpha=0.3)
    position: dict[str, Any] = {}
    if count > 5:  # below the axes
        longest = max(len(line.label) for line in lines if line.prominent)
        position = {"loc": "upper center", "bbox_to_anchor": (0.5, -0.14)}
        position["ncols"] = 2 if longest < 50 else 1
    axes.legend(frameon=False, fontsize=7, **position)


def _plot_groups(axes: Any, results: Results, groups: list[SeedGroup], x: str) -> None:
    """The metric of each group against `x`, with a colour and a marker for each network; markers of
    teachers are hollow."""
    for i, (network, members) in enumerate(figure_data.by_network(results, groups).items()):
        colour = COLOURS[i % len(COLOURS)]
        fill = colour if network.startswith("student") else "none"
        axes.scatter(
            [s.values[x].mean for s in members],
            [s.values[results.metric].mean for s in members],
            label=network,
            marker=MARKERS[i % len(MARKERS)],
            facecolors=fill,
            edgecolors=colour,
        )
    label_metric_axis(axes, results.metric, [s.values[results.metric].mean for s in groups])
    axes.grid(True, which="major", alpha=0.3)
    axes.legend(frameon=False, fontsize=8)


def label_metric_axis(axes: Any, metric: str, values: list[float]) -> None:
    axes.set_ylabel(display_name(metric))
    if is_logarithmic(metric, values):
        axes.set_yscale("log")
        at = figure_data.ticks(min(values), max(values))
        axes.set_yticks(at, [f"{t:g}" for t in at])
    axes.minorticks_off()
