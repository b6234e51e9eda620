"""The figures of the page, by plotly. Importing this imports plotly, which takes time: a command does
so after its work."""

import html
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import plotly.graph_objects as go

from orchestrator.reports import figure_data
from orchestrator.reports.aggregates import Results, SeedGroup, display_name, is_logarithmic
from orchestrator.reports.figure_data import COLOURS, GRAY, Line
from orchestrator.sweeps.ranking import Progress

SYMBOLS = ("circle", "square", "triangle-up", "diamond", "triangle-down", "cross", "x")
DASHES = ("solid", "dash", "dot", "dashdot")
SCALE = "Cividis"  # monotone in lightness: readable for colour-blind readers and in gray print
WIDTH = 960  # pixels, roughly, for the names in a legend
Pairs = dict[tuple[float, float], float]  # (damping, speed) -> a number
FONT = {"family": "system-ui, sans-serif", "size": 13, "color": "#222222"}


@dataclass(frozen=True)
class Chart:
    """A figure with its unique name on the page, its title and its caption. `answers`: it shows what
    the sweep asked. `training`: it is of trainings."""

    name: str
    title: str
    note: str
    figure: go.Figure
    answers: bool = False
    training: bool = False


def charts(results: Results) -> Iterator[Chart]:
    """Every figure that the results allow, feature extractor by feature extractor."""
    several = len(results.features) > 1
    for number, features in enumerate(results.features):
        for chart in _of_features(results, features):
            if several:  # numbers on different features do not compare: each has its own figures
                name, title = f"{chart.name}-{number}", f"{chart.title} ({features})"
                chart = replace(chart, name=name, title=title)
            yield chart
    for kind in ("teacher", "student"):
        lines, count = figure_data.loss_curves(results, kind)
        if lines:
            note = "Each point is the mean over the steps since the point before. "
            note += "Click a name to hide its line, double-click to show it alone."
            note += _limit_note(lines, count)
            figure = by_step(lines, "loss")
            yield Chart(f"losses_{kind}", f"Loss of the {kind}s", note, figure, training=True)
    curves = figure_data.fid_curves(results)
    for number, (scale, (lines, count)) in enumerate(curves.items()):
        name, title = "fid_while_training", "FID during training"
        if len(curves) > 1:
            name, title = f"{name}-{number}", f"{title} ({scale})"
        note = "These FIDs are of few images and so biased up. "
        note += "Lines that end early were stopped early, or are in training."
        note += _limit_note(lines, count)
        yield Chart(name, title, note, by_step(lines, "fid"), training=True)


def _limit_note(lines: list[Line], count: int) -> str:
    if len(lines) == count:
        return ""
    return f" The first {len(lines)} of {count}, by the rank of their trials."


def _of_features(results: Results, features: str) -> Iterator[Chart]:
    metric = display_name(results.metric)
    several = False  # numbers of steps
    for name in results.metrics:
        lines = figure_data.nfe_lines(results, name, features)
        if lines:
            title = f"{display_name(name)} against NFE"
            figure = _with_floor(against_nfe(lines, name, features), results, name, features)
            answers = name == results.metric
            yield Chart(f"{name}_vs_nfe", title, _nfe_note(lines, name), figure, answers)
            several |= answers
    best = figure_data.two_settings(results, features)
    if best is not None:
        title = f"{metric} by {' and '.join(best.names)}"
        figure = two_settings(best, results.metric)
        yield Chart(best.figure, title, _two_settings_note(best), figure, answers=True)
    axes = figure_data.parallel_axes(results, features)
    if axes:
        note = "One line for each configuration. Drag along an axis to keep only the lines that pass there."
        figure = parallel(axes, results.small_is_good)
        answers = best is None and not several
        yield Chart("parallel", f"Swept settings and {metric}", note, figure, answers)
    steps = figure_data.search_progress(results, features)
    if steps:
        note = "A point for each measured trial, in the order of the trials; the line is the best so far."
        yield Chart("progress", f"{metric} by trial", note, progress(results, steps), answers=True)
    found = figure_data.importances(results, features)
    if found is not None:
        figure, note = importances(found), figure_data.importances_note(found, metric)
        yield Chart("importances", f"What {metric} depends on", note, figure)
    front = figure_data.pareto_front(results, features)
    if front is not None:
        note = "The line is the Pareto front: the configurations that no other beats in both."
        figure = _with_floor(pareto(results, front), results, results.metric, features)
        title = f"{metric} and {display_name(front.cost)}, the Pareto front"
        yield Chart("pareto", title, note, figure, answers=results.several)
    groups = results.measured(features, "kinetic_path_energy")
    if groups:
        note = "Kinetic path energy is 1/2 integral of |u|² dt along the trajectory from noise to sample, "
        note += "with velocity u; the mean over samples."
        figure = _with_floor(energy(results, groups), results, results.metric, features)
        yield Chart("energy", f"Kinetic path energy and {metric}", note, figure)


def _with_floor(figure: go.Figure, results: Results, metric: str, features: str) -> go.Figure:
    """`figure` with a dotted line at the FID of a perfect model, if that is known."""
    value = figure_data.floor(results, metric, features)
    if value is not None:
        figure.add_hline(
            y=value,
            line={"color": "#444444", "dash": "dot", "width": 1.2},
            annotation={"text": f"a perfect model: {value:.3g}", "font": {"size": 11}},
            annotation_position="bottom left",
        )
        if figure.layout.yaxis.type == "log":  # where annotations stand by the logarithm
            figure.layout.annotations[-1].y = math.log10(value)
    return figure


def _nfe_note(lines: list[Line], metric: str) -> str:
    gray = sum(not line.prominent for line in lines)
    note = ""
    if gray:
        note = f"The best {len(lines) - gray} networks are in colour, {gray} others in gray. "
    if not any(point.std for line in lines for _, point in line.points):
        return f"{note}No bars: one training seed and one sampling of each network."
    what = "Bars and bands" if any(line.band is not None for line in lines) else "Bars"
    note += f"{what}: standard deviation between seeds; for a single trial between its samplings"
    if metric == "kid":
        return f"{note}, or else between the subsets of KID."
    return f"{note}."


def _two_settings_note(best: figure_data.TwoSettings) -> str:
    mark = "cell" if best.grid else "point"
    which = "the one configuration"
    if best.group_count > 1:
        which = f"the best of up to {best.group_count} configurations"
    note = f"Each {mark} is {which} with this {' and '.join(best.names)}, a mean over seeds."
    if best.ties:
        what = "Hatched cells" if best.grid else "Points with a cross"
        note += f" {what} cannot be told from the best."
    return note


def against_nfe(lines: list[Line], metric: str, features: str) -> go.Figure:
    """The metric against NFE; students are solid lines, teachers dashed ones."""
    figure = _curves(lines, metric)
    values = [p.mean for line in lines for _, p in line.points]
    nfe = sorted({x for line in lines for x, _ in line.points})
    _layout(
        figure,
        figure_data.NFE,
        f"{display_name(metric)} ({features})" if features else display_name(metric),
    )
    figure.update_xaxes(type="log", tickvals=nfe, ticktext=[f"{n:g}" for n in nfe])
    figure.update_yaxes(**_metric_axis(metric, values))
    return figure


def by_step(lines: list[Line], name: str) -> go.Figure:
    """The measure `name`, such as the loss, by training step; logarithmic if all values are positive."""
    figure = _curves(lines, name)
    figure.update_traces(mode="lines", error_y=None)
    count = 0
    for trace in figure.data:  # without markers, dashes tell lines of one colour apart
        trace.line.dash = DASHES[count // len(COLOURS) % len(DASHES)]
        count += trace.showlegend is not False
        if len(trace.x) == 1:  # a sweep that has just begun
            trace.mode = "markers"
    _layout(figure, "training step", display_name(name))
    values = [p.mean for line in lines for _, p in line.points]
    if min(values) > 0:
        figure.update_yaxes(**_log_axis(values))
    return figure


def two_settings(best: figure_data.TwoSettings, metric: str) -> go.Figure:
    """A heat map if the pairs form a grid, else a point for each pair; what ties with the best is
    hatched or crossed."""
    values = best.values
    bar: dict[str, Any] = {"title": {"text": _escaped(display_name(metric))}}
    shade = dict(values)
    if is_logarithmic(metric, values.values()):
        shade = {pair: math.log10(value) for pair, value in values.items()}
        at = figure_data.ticks(min(values.values()), max(values.values()))
        bar |= {"tickvals": [math.log10(t) for t in at], "ticktext": [f"{t:g}" for t in at]}
    if best.grid:
        figure = go.Figure(_heat_map(best, shade, bar))
        _layout(figure, *best.names)
        for line in _hatching(best):
            figure.add_shape(type="line", line={"color": "white", "width": 1.5}, **line)
        # with another type, texts such as 25 would be read as numbers
        figure.update_xaxes(type="category")
        figure.update_yaxes(type="category")
        return figure
    figure = go.Figure(_coloured_points(best, shade, bar))
    _layout(figure, *best.names)
    for i, update in enumerate((figure.update_xaxes, figure.update_yaxes)):
        coordinates = [pair[i] for pair in values]
        if figure_data.spans_decades(coordinates):
            update(**_log_axis(coordinates))
    return figure


def _axes(best: figure_data.TwoSettings) -> tuple[list[float], list[float]]:
    """The values of each setting, in order."""
    one, two = (sorted({pair[i] for pair in best.values}) for i in (0, 1))
    return one, two


def _hatching(best: figure_data.TwoSettings) -> Iterator[dict[str, float]]:
    """The ends of the lines that hatch tied cells, in cells from the first; plotly's heat maps have
    no hatching."""
    one, two = _axes(best)
    for pair in best.ties:
        x, y = one.index(pair[0]), two.index(pair[1])
        for shift in (-0.6, -0.3, 0.0, 0.3, 0.6):
            low, high = max(-0.48, shift - 0.48), min(0.48, shift + 0.48)
            yield {"x0": x + low, "y0": y + low - shift, "x1": x + high, "y1": y + high - shift}


def _heat_map(best: figure_data.TwoSettings, shade: Pairs, bar: dict[str, Any]) -> go.Heatmap:
    one, two = _axes(best)
    table = [[best.values.get((d, s)) for d in one] for s in two]
    return go.Heatmap(
        x=[f"{d:g}" for d in one],
        y=[f"{s:g}" for s in two],
        customdata=table,
        z=[[shade.get((d, s)) for d in one] for s in two],
        text=[["" if v is None else f"{v:.3g}" for v in row] for row in table],
        texttemplate="%{text}",
        colorscale=SCALE,
        colorbar=bar,
        xgap=2,
        ygap=2,
        hoverongaps=False,
        hovertemplate=f"{_escaped(best.names[0])} %{{x}}, {_escaped(best.names[1])} %{{y}}: "
        "%{text}<extra></extra>",
    )


def _coloured_points(
    best: figure_data.TwoSettings, shade: Pairs, bar: dict[str, Any]
) -> go.Scatter:
    pairs, values = list(best.values), best.values
    return go.Scatter(
        x=[p[0] for p in pairs],
        y=[p[1] for p in pairs],
        mode="markers",
        customdata=[values[p] for p in pairs],
        marker={
            "size": 11,
            "symbol": ["circle-cross" if p in best.ties else "circle" for p in pairs],
            "color": [shade[p] for p in pairs],
            "colorscale": SCALE,
            "colorbar": bar,
            "line": {"color": "black", "width": 0.5},
        },
        hovertemplate=f"{_escaped(best.names[0])} %{{x:.4g}}, {_escaped(best.names[1])} %{{y:.4g}}: "
        "%{customdata:.4g}<extra></extra>",
    )


def parallel(axes: list[figure_data.ParallelAxis], small_is_good: bool) -> go.Figure:
    """Parallel coordinates; the metric sets the colour of a line."""
    metric = axes[-1]
    line = {"color": metric.values, "colorscale": SCALE, "reversescale": not small_is_good}
    dimensions = [_dimension(axis) for axis in axes]
    figure = go.Figure(go.Parcoords(line=line, dimensions=dimensions, labelfont={"size": 14}))
    figure.update_traces(tickfont={"size": 12})
    left = 40 + 7 * max(len(text) for text in axes[0].texts)  # for the texts of the first axis
    figure.update_layout(
        template="none", height=460, margin={"l": left, "r": 60, "t": 90, "b": 30}, font=FONT
    )
    return figure


def _dimension(axis: figure_data.ParallelAxis) -> dict[str, Any]:
    return {
        "label": _escaped(axis.name),
        "values": axis.values,
        "tickvals": axis.ticks,
        "ticktext": axis.texts,
    }


def progress(results: Results, steps: list[Progress]) -> go.Figure:
    """The metric of each trial of a search, and the best so far."""
    figure, x = go.Figure(), [step.trial for step in steps]
    titles = [_escaped(results.records.plan.trials[step.trial].title) for step in steps]
    shown = f"trial %{{x}}: {display_name(results.metric)} %{{y:.4g}}<br>%{{text}}<extra></extra>"
    points = {"color": COLOURS[0], "size": 7}
    values, best = [step.value for step in steps], [step.best for step in steps]
    figure.add_trace(
        go.Scatter(
            x=x,
            y=values,
            mode="markers",
            name="trial",
            marker=points,
            text=titles,
            hovertemplate=shown,
        )
    )
    line = {"color": COLOURS[1], "shape": "hv", "width": 2}
    figure.add_trace(
        go.Scatter(x=x, y=best, mode="lines", line=line, name="best so far", hoverinfo="skip")
    )
    _layout(figure, "trial", display_name(results.metric))
    figure.update_yaxes(**_metric_axis(results.metric, values))
    return figure


def importances(found: figure_data.Importances) -> go.Figure:
    """The share of each setting, the largest on top."""
    names = [_escaped(name) for name in found.shares]
    shares = [*found.shares.values()]
    bars = go.Bar(
        x=shares,
        y=names,
        orientation="h",
        marker={"color": COLOURS[0]},
        text=[f"{share:.2f}" for share in shares],
        hovertemplate="%{y}: %{x:.3f}<extra></extra>",
        showlegend=False,
    )
    figure = go.Figure(bars)
    _layout(figure, "share of the variance", "")
    figure.update_layout(height=150 + 32 * len(names))
    figure.update_xaxes(range=[0, 1])
    figure.update_yaxes(autorange="reversed", type="category")
    return figure


def pareto(results: Results, front: figure_data.ParetoFront) -> go.Figure:
    """The metric against its cost, with the Pareto front."""
    figure = _scatter(results, front.groups, front.cost)
    x = [s.values[front.cost].mean for s in front.best]
    y = [s.values[results.metric].mean for s in front.best]
    step = {"color": "#000000", "shape": "hv", "width": 1.5}
    figure.add_trace(
        go.Scatter(x=x, y=y, mode="lines", line=step, name="Pareto front", hoverinfo="skip")
    )
    _layout(
        figure,
        figure_data.COST_TITLES.get(front.cost, display_name(front.cost)),
        display_name(results.metric),
    )
    if front.cost == "nfe":
        nfe = sorted({group.values["nfe"].mean for group in front.groups})
        figure.update_xaxes(type="log", tickvals=nfe, ticktext=[f"{n:g}" for n in nfe])
    elif front.log:
        figure.update_xaxes(type="log")
    figure.update_yaxes(
        **_metric_axis(results.metric, [s.values[results.metric].mean for s in front.groups])
    )
    return figure


def energy(results: Results, groups: list[SeedGroup]) -> go.Figure:
    """The metric against the kinetic path energy of the samples."""
    figure = _scatter(results, groups, "kinetic_path_energy")
    _layout(figure, "kinetic path energy", display_name(results.metric))
    figure.update_yaxes(
        **_metric_axis(results.metric, [s.values[results.metric].mean for s in groups])
    )
    return figure


def _layout(figure: go.Figure, x: str, y: str) -> None:
    grid = {
        "gridcolor": "#DDDDDD",
        "zeroline": False,
        "linecolor": "#444444",
        "ticks": "outside",
        "automargin": True,
    }
    names = [trace.name for trace in figure.data if trace.name and trace.showlegend is not False]
    columns = max(1, WIDTH // (7 * max(map(len, names), default=1) + 45))
    legend_height = 20 * math.ceil(len(names) / columns)
    figure.update_layout(
        template="none",
        height=430 + legend_height,
        margin={"l": 70, "r": 20, "t": 40, "b": 70 + legend_height},
        font=FONT,
        legend={"orientation": "h", "yref": "container", "y": 0, "yanchor": "bottom"},
        hovermode="closest",
        showlegend=bool(names),
    )
    figure.update_xaxes(title={"text": _escaped(x), "standoff": 12}, **grid)
    figure.update_yaxes(title={"text": _escaped(y), "standoff": 12}, **grid)


def _metric_axis(metric: str, values: list[float]) -> dict[str, Any]:
    return _log_axis(values) if is_logarithmic(metric, values) else {}


def _log_axis(values: list[float]) -> dict[str, Any]:
    at = figure_data.ticks(min(values), max(values))
    return {"type": "log", "tickvals": at, "ticktext": [f"{t:g}" for t in at]}


def _curves(lines: list[Line], metric: str) -> go.Figure:
    """A figure of all lines, the prominent ones above the gray ones."""
    figure, count, bands = go.Figure(), 0, []
    for line in sorted(lines, key=lambda line: line.prominent):
        figure.add_trace(_curve(line, count if line.prominent else None, metric))
        if (band := line.band) is not None:
            bands.append(_band(line, *band, COLOURS[count % len(COLOURS)]))
        count += line.prominent
    figure.add_traces(bands)
    return figure


def _band(line: Line, lows: list[float], highs: list[float], colour: str) -> go.Scatter:
    """The area between the lower and the upper end of the spread of a line."""
    x = [x for x, _ in line.points]
    return go.Scatter(
        x=[*x, *reversed(x)],
        y=[*highs, *reversed(lows)],
        fill="toself",
        fillcolor=colour,
        opacity=0.15,
        mode="none",
        hoverinfo="skip",
        showlegend=False,
    )


def _curve(line: Line, number: int | None, metric: str) -> go.Scatter:
    """One line; `number` counts the prominent lines and is None for a gray one."""
    x, y = [x for x, _ in line.points], [p.mean for _, p in line.points]
    spread = [p.std for _, p in line.points]
    colour = GRAY if number is None else COLOURS[number % len(COLOURS)]
    symbol = SYMBOLS[number // len(COLOURS) % len(SYMBOLS)] if number is not None else "circle"
    return go.Scatter(
        x=x,
        y=y,
        name=_escaped(line.label),
        mode="lines+markers",
        showlegend=number is not None,
        line={
            "color": colour,
            "dash": "solid" if line.student else "dash",
            "width": 1 if number is None else 2,
        },
        marker={"symbol": symbol, "size": 4 if number is None else 8},
        error_y={"array": spread, "thickness": 1.2} if any(spread) else None,
        text=[_escaped(line.label)] * len(x),
        hovertemplate=f"%{{text}}<br>%{{x}}: {display_name(metric)} %{{y:.4g}}<extra></extra>",
    )


def _scatter(results: Results, groups: list[SeedGroup], x: str) -> go.Figure:
    """The metric of every group against `x`: teachers as hollow, students as filled markers."""
    figure, metric = go.Figure(), results.metric
    for i, (network, members) in enumerate(figure_data.by_network(results, groups).items()):
        symbol = SYMBOLS[i % len(SYMBOLS)] + ("" if network.startswith("student") else "-open")
        figure.add_trace(
            go.Scatter(
                x=[s.values[x].mean for s in members],
                y=[s.values[metric].mean for s in members],
                mode="markers",
                name=_escaped(network),
                text=[_escaped(results.group_title(s)) for s in members],
                marker={
                    "symbol": symbol,
                    "color": COLOURS[i % len(COLOURS)],
                    "size": 9,
                    "line": {"width": 1.5},
                },
                hovertemplate=f"%{{text}}<br>%{{x:.3g}}: {display_name(metric)} %{{y:.4g}}<extra></extra>",
            )
        )
    return figure


def _escaped(text: str) -> str:
    """`text` for plotly, which reads labels as HTML, but not quotes."""
    return html.escape(text, quote=False)
