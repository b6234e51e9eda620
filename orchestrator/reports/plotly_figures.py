"""The figures of the page, by plotly. Importing this imports plotly: a command does so when its
work is done."""

import html
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import plotly.graph_objects as go

from orchestrator.reports import figure_data
from orchestrator.reports.aggregates import Results, SeedGroup, logarithmic, said
from orchestrator.reports.figure_data import COLOURS, GRAY, Line

SYMBOLS = ("circle", "square", "triangle-up", "diamond", "triangle-down", "cross", "x")
SCALE = "Cividis"  # one order of lightness, the same to every eye and in gray print
SECONDS = "seconds per image"
NFE = "network evaluations per image (NFE)"
WIDTH = 960  # pixels for the names of a legend, more or less
FONT = {"family": "system-ui, sans-serif", "size": 13, "color": "#222222"}


@dataclass(frozen=True)
class Chart:
    """A figure with a name of its own on the page, a title and what a reader has to know."""

    name: str
    title: str
    note: str
    figure: go.Figure


def charts(results: Results) -> Iterator[Chart]:
    """Every figure that the results allow: those of one feature extractor after those of
    another."""
    several = len(results.features) > 1
    for number, features in enumerate(results.features):
        for chart in _of_features(results, features):
            if several:  # their numbers are on different scales: no two of them share a figure
                chart = Chart(
                    f"{chart.name}-{number}",
                    f"{chart.title} ({features})",
                    chart.note,
                    chart.figure,
                )
            yield chart
    for kind in ("teacher", "student"):
        lines, count = figure_data.loss_curves(results, kind)
        if lines:
            shown = (
                f" The first {len(lines)} of {count}, by the rank of their trials."
                if len(lines) < count
                else ""
            )
            note = "Mean of the steps between two points. Click on a name to hide it, twice to see it alone."
            yield Chart(
                f"losses_{kind}", f"Loss of the {kind}s", note + shown, by_step(lines, "loss")
            )
    curves = figure_data.fid_curves(results)
    for number, (scale, (lines, count)) in enumerate(curves.items()):
        note = "Of few images, so biased up; those that end early were stopped."
        shown = (
            f" The first {len(lines)} of {count}, by the rank of their trials."
            if len(lines) < count
            else ""
        )
        name, of = (
            ("fid_while_training", "")
            if len(curves) == 1
            else (f"fid_while_training-{number}", f" ({scale})")
        )
        yield Chart(
            name, f"FID of the teachers while they train{of}", note + shown, by_step(lines, "fid")
        )


def _of_features(results: Results, features: str) -> Iterator[Chart]:
    metric = results.metric
    for name in results.metrics:
        lines = figure_data.nfe_lines(results, name, features)
        if lines:
            gray = sum(not line.prominent for line in lines)
            note = (
                f"The best {len(lines) - gray} networks in colour, {gray} others in gray. "
                if gray
                else ""
            )
            note += (
                "Bars: standard deviation between seeds, of a single trial between its samplings"
            )
            note += " or else KID's own, between subsets of one." if name == "kid" else "."
            yield Chart(
                f"{name}_vs_nfe",
                f"{said(name)} against NFE",
                note,
                against_nfe(lines, name, features),
            )
    found = figure_data.field(results, features)
    if found is not None:
        of = f"the best of up to {found.settings} settings" if found.settings > 1 else "one setting"
        note = f"Each {'cell' if found.grid else 'point'} is {of} with this damping and speed, a mean over seeds."
        yield Chart(
            "damping_speed",
            f"{said(metric)} by damping and speed",
            note,
            damping_speed(found, metric),
        )
    axes = figure_data.axes(results, features)
    if axes:
        note = (
            "One line for each setting. Drag along an axis to keep only the lines that pass there."
        )
        yield Chart(
            "parallel",
            f"Swept settings and {said(metric)}",
            note,
            parallel(axes, results.small_is_good),
        )
    front = figure_data.front(results, features)
    if front is not None:
        note = "The line joins the settings that no other beats in both: the Pareto front."
        yield Chart("pareto", f"{said(metric)} against time", note, pareto(results, front))
    settings = results.measured(features, "kinetic_path_energy")
    if settings:
        note = "Energy: 1/2 integral of |u|² dt on the way from noise to sample, u the velocity; the mean over samples."
        yield Chart(
            "energy", f"Kinetic path energy and {said(metric)}", note, energy(results, settings)
        )


def against_nfe(lines: list[Line], metric: str, features: str) -> go.Figure:
    """The metric against NFE; students are solid lines, teachers dashed ones."""
    figure, told = go.Figure(), 0
    for line in sorted(lines, key=lambda v: v.prominent):  # gray ones first, below the others
        figure.add_trace(_curve(line, told if line.prominent else None, metric))
        told += line.prominent
    values = [p.mean for line in lines for _, p in line.points]
    nfe = sorted({x for line in lines for x, _ in line.points})
    _layout(figure, NFE, f"{said(metric)} ({features})" if features else said(metric))
    figure.update_xaxes(type="log", tickvals=nfe, ticktext=[f"{n:g}" for n in nfe])
    figure.update_yaxes(**_scaled(metric, values))
    return figure


def by_step(lines: list[Line], name: str) -> go.Figure:
    """Loss, or whatever `name` is, by training step, logarithmic where it can be."""
    figure, told = go.Figure(), 0
    for line in sorted(lines, key=lambda v: v.prominent):
        curve = _curve(line, told if line.prominent else None, name)
        curve.update(mode="lines", error_y=None, line_dash="solid")
        figure.add_trace(curve)
        told += line.prominent
    _layout(figure, "training step", said(name))
    values = [p.mean for line in lines for _, p in line.points]
    if min(values) > 0:
        figure.update_yaxes(**_logarithmic(values))
    return figure


def damping_speed(found: figure_data.Field, metric: str) -> go.Figure:
    """A heat map where both are grids; where they are drawn between limits a point for each
    pair."""
    values = found.values
    log = logarithmic(metric, values.values())
    shade = {pair: math.log10(v) if log else v for pair, v in values.items()}
    at = figure_data.ticks(min(values.values()), max(values.values())) if log else None
    bar: dict[str, Any] = {"title": {"text": _safe(said(metric))}}
    bar |= (
        {"tickvals": [math.log10(t) for t in at], "ticktext": [f"{t:g}" for t in at]} if at else {}
    )
    if found.grid:
        damping, speed = (sorted({pair[i] for pair in values}) for i in (0, 1))
        table = [[values.get((d, s)) for d in damping] for s in speed]
        trace: Any = go.Heatmap(
            x=[f"{d:g}" for d in damping],
            y=[f"{s:g}" for s in speed],
            customdata=table,
            z=[[shade.get((d, s)) for d in damping] for s in speed],
            text=[["" if v is None else f"{v:.3g}" for v in row] for row in table],
            texttemplate="%{text}",
            colorscale=SCALE,
            colorbar=bar,
            xgap=2,
            ygap=2,
            hoverongaps=False,
            hovertemplate="damping %{x}, speed %{y}: %{text}<extra></extra>",
        )
    else:
        pairs = list(values)
        trace = go.Scatter(
            x=[p[0] for p in pairs],
            y=[p[1] for p in pairs],
            mode="markers",
            customdata=[values[p] for p in pairs],
            marker={
                "size": 11,
                "color": [shade[p] for p in pairs],
                "colorscale": SCALE,
                "colorbar": bar,
                "line": {"color": "black", "width": 0.5},
            },
            hovertemplate="damping %{x:.4g}, speed %{y:.4g}: %{customdata:.4g}<extra></extra>",
        )
    figure = go.Figure(trace)
    _layout(figure, "damping", "speed")
    if found.grid:  # else a text such as 25 would be read as a number
        figure.update_xaxes(type="category")
        figure.update_yaxes(type="category")
    else:
        for i, update in enumerate((figure.update_xaxes, figure.update_yaxes)):
            update(
                **_logarithmic([pair[i] for pair in values])
                if figure_data.wide(pair[i] for pair in values)
                else {}
            )
    return figure


def parallel(axes: list[figure_data.Axis], small_is_good: bool) -> go.Figure:
    """Parallel coordinates; the lines have the colour of the metric."""
    metric = axes[-1]
    line = {"color": metric.values, "colorscale": SCALE, "reversescale": not small_is_good}
    dimensions = [
        {
            "label": _safe(axis.name),
            "values": axis.values,
            "tickvals": axis.ticks,
            "ticktext": axis.texts,
        }
        for axis in axes
    ]
    figure = go.Figure(go.Parcoords(line=line, dimensions=dimensions, labelfont={"size": 14}))
    figure.update_traces(tickfont={"size": 12})
    left = 40 + 7 * max(len(text) for text in axes[0].texts)  # room for the texts of the first axis
    figure.update_layout(
        template="none", height=460, margin={"l": left, "r": 60, "t": 90, "b": 30}, font=FONT
    )
    return figure


def pareto(results: Results, front: figure_data.Front) -> go.Figure:
    """The metric against seconds per image, both logarithmic where they can be, with the front."""
    figure = _scatter(results, front.settings, "seconds_per_image")
    x = [s.values["seconds_per_image"].mean for s in front.best]
    y = [s.values[results.metric].mean for s in front.best]
    step = {"color": "#000000", "shape": "hv", "width": 1.5}
    figure.add_trace(
        go.Scatter(x=x, y=y, mode="lines", line=step, name="Pareto front", hoverinfo="skip")
    )
    _layout(figure, SECONDS, said(results.metric))
    seconds = [s.values["seconds_per_image"].mean for s in front.settings]
    if min(seconds) > 0:
        figure.update_xaxes(**_logarithmic(seconds))
    figure.update_yaxes(
        **_scaled(results.metric, [s.values[results.metric].mean for s in front.settings])
    )
    return figure


def energy(results: Results, settings: list[SeedGroup]) -> go.Figure:
    """The metric against the energy that the samples' ways take."""
    figure = _scatter(results, settings, "kinetic_path_energy")
    _layout(figure, "kinetic path energy", said(results.metric))
    figure.update_yaxes(
        **_scaled(results.metric, [s.values[results.metric].mean for s in settings])
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
    below = 20 * math.ceil(len(names) / columns)
    figure.update_layout(
        template="none",
        height=430 + below,
        margin={"l": 70, "r": 20, "t": 40, "b": 70 + below},
        font=FONT,
        legend={"orientation": "h", "yref": "container", "y": 0, "yanchor": "bottom"},
        hovermode="closest",
        showlegend=bool(names),
    )
    figure.update_xaxes(title={"text": _safe(x), "standoff": 12}, **grid)
    figure.update_yaxes(title={"text": _safe(y), "standoff": 12}, **grid)


def _scaled(metric: str, values: list[float]) -> dict[str, Any]:
    return _logarithmic(values) if logarithmic(metric, values) else {}


def _logarithmic(values: list[float]) -> dict[str, Any]:
    at = figure_data.ticks(min(values), max(values))
    return {"type": "log", "tickvals": at, "ticktext": [f"{t:g}" for t in at]}


def _curve(line: Line, number: int | None, metric: str) -> go.Scatter:
    """One line of many; `number` says which of the prominent ones it is, None: none."""
    x, y = [x for x, _ in line.points], [p.mean for _, p in line.points]
    spread = [p.std for _, p in line.points]
    colour = GRAY if number is None else COLOURS[number % len(COLOURS)]
    symbol = SYMBOLS[number // len(COLOURS) % len(SYMBOLS)] if number is not None else "circle"
    return go.Scatter(
        x=x,
        y=y,
        name=_safe(line.label),
        mode="lines+markers",
        showlegend=number is not None,
        line={
            "color": colour,
            "dash": "solid" if line.student else "dash",
            "width": 1 if number is None else 2,
        },
        marker={"symbol": symbol, "size": 4 if number is None else 8},
        error_y={"array": spread, "thickness": 1.2} if any(spread) else None,
        text=[_safe(line.label)] * len(x),
        hovertemplate=f"%{{text}}<br>%{{x}}: {said(metric)} %{{y:.4g}}<extra></extra>",
    )


def _scatter(results: Results, settings: list[SeedGroup], x: str) -> go.Figure:
    """The metric of every setting against `x`, teachers hollow and students filled."""
    figure, metric = go.Figure(), results.metric
    for i, (network, members) in enumerate(figure_data.by_network(results, settings).items()):
        symbol = SYMBOLS[i % len(SYMBOLS)] + ("" if network.startswith("student") else "-open")
        figure.add_trace(
            go.Scatter(
                x=[s.values[x].mean for s in members],
                y=[s.values[metric].mean for s in members],
                mode="markers",
                name=_safe(network),
                text=[_safe(results.title(s)) for s in members],
                marker={
                    "symbol": symbol,
                    "color": COLOURS[i % len(COLOURS)],
                    "size": 9,
                    "line": {"width": 1.5},
                },
                hovertemplate=f"%{{text}}<br>%{{x:.3g}}: {said(metric)} %{{y:.4g}}<extra></extra>",
            )
        )
    return figure


def _safe(text: str) -> str:
    return html.escape(
        text, quote=False
    )  # plotly reads labels as a little HTML, quotes as they are
