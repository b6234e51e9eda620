"""The figures of a sweep as PNG, in its figures/: what the report shows, for papers and for
MLflow."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from orchestrator.plan import data as dataset_info
from orchestrator.plan.plan import Trial
from orchestrator.reports import figure_data, training_images
from orchestrator.reports.aggregates import Results, SeedGroup, logarithmic, said
from orchestrator.reports.figure_data import COLOURS, GRAY, Line
from orchestrator.store import layout
from orchestrator.sweeps.records import Records

MARKERS = ("o", "s", "^", "D", "v", "P", "X")
SCALE = "cividis"
STRIPS = 24  # of samples in one figure

Draw = Callable[
    [Any, Results, str], bool
]  # on axes, for one feature extractor; False where there is nothing


def write_figures(records: Records) -> list[Path]:
    """All figures that the results allow, into the sweep's figures/; returns their paths."""
    import matplotlib

    matplotlib.use("Agg")
    with (records.folder / layout.FIGURES).staged() as folder:
        return _write(Results(records), folder) + _real(records, folder)


def _write(results: Results, folder: Path) -> list[Path]:
    drawn: dict[str, Draw] = {
        f"{metric}_vs_nfe": _against_nfe(metric) for metric in results.metrics
    }
    drawn |= {
        "damping_speed": _damping_speed,
        "parallel": _parallel,
        "pareto": _pareto,
        "energy": _energy,
    }
    done = [
        path
        for name, draw in drawn.items()
        if _panels(results, path := folder / f"{name}.png", draw)
    ]
    others = {"losses": _losses, "fid_while_training": _watched, "samples_by_nfe": _samples}
    others |= {"trajectories": trajectories_of_points}
    return done + [
        path for name, make in others.items() if make(results, path := folder / f"{name}.png")
    ]


def _real(records: Records, folder: Path) -> list[Path]:
    """Training images of each data set as a network sees them."""
    found = [panel.png for panel in training_images.panels(records) if panel.png is not None]
    paths = [
        folder / ("real.png" if len(found) == 1 else f"real-{number}.png")
        for number in range(len(found))
    ]
    for path, png in zip(paths, found, strict=True):
        path.write_bytes(png)
    return paths


def _panels(results: Results, path: Path, draw: Draw) -> bool:
    """A panel for each feature extractor: FIDs of two of them are on no common axis."""
    import matplotlib.pyplot as plt

    count = len(results.features)
    if not count:
        return False
    figure, panels = plt.subplots(1, count, figsize=(7.2 * count, 4.6), dpi=150, squeeze=False)
    found = [
        draw(axes, results, features)
        for axes, features in zip(panels[0], results.features, strict=True)
    ]
    for axes, features, there in zip(panels[0], results.features, found, strict=True):
        axes.set_title(
            f"{results.records.plan.experiment.name} ({features})", fontsize=10, parse_math=False
        )
        if not there:
            axes.set_axis_off()
    return _saved(figure, path, any(found))


def _against_nfe(metric: str) -> Draw:
    def draw(axes: Any, results: Results, features: str) -> bool:
        lines = figure_data.nfe_lines(results, metric, features)
        if not lines:
            return False
        _draw_lines(axes, lines, markers=True)
        axes.set_xscale("log")
        nfe = sorted({x for line in lines for x, _ in line.points})
        axes.set_xticks(nfe, [f"{n:g}" for n in nfe])
        _scale(axes, metric, [p.mean for line in lines for _, p in line.points])
        axes.set_xlabel("network evaluations per image (NFE)")
        return True

    return draw


def _damping_speed(axes: Any, results: Results, features: str) -> bool:
    from matplotlib.colors import LogNorm, Normalize

    found = figure_data.field(results, features)
    if found is None:
        return False
    numbers = list(found.values.values())
    log = logarithmic(results.metric, numbers)
    norm = (LogNorm if log else Normalize)(
        min(numbers), max(numbers) * (1.01 if len(set(numbers)) == 1 else 1)
    )
    damping, speed = (sorted({pair[i] for pair in found.values}) for i in (0, 1))
    if found.grid:
        table = [[found.values.get((d, s), math.nan) for d in damping] for s in speed]
        shown = axes.imshow(table, norm=norm, cmap=SCALE, origin="lower", aspect="auto")
        axes.set_xticks(range(len(damping)), [f"{d:g}" for d in damping])
        axes.set_yticks(range(len(speed)), [f"{s:g}" for s in speed])
        for (d, s), value in found.values.items():
            ink = "white" if norm(value) < 0.5 else "black"
            axes.text(
                damping.index(d),
                speed.index(s),
                f"{value:.3g}",
                ha="center",
                va="center",
                color=ink,
            )
    else:
        x, y = zip(*found.values, strict=True)
        shown = axes.scatter(
            x, y, c=numbers, norm=norm, cmap=SCALE, edgecolors="black", linewidths=0.5
        )
        for scale, at in ((axes.set_xscale, x), (axes.set_yscale, y)):
            scale("log" if figure_data.wide(at) else "linear")
    bar = axes.figure.colorbar(
        shown, ax=axes, label=f"{said(results.metric)}, the best with this pair"
    )
    if log:
        marks = [
            t
            for t in figure_data.ticks(min(numbers), max(numbers))
            if min(numbers) <= t <= max(numbers)
        ]
        bar.set_ticks(marks, labels=[f"{t:g}" for t in marks])
        bar.minorticks_off()
    axes.set_xlabel("damping")
    axes.set_ylabel("speed")
    return True


def _parallel(axes: Any, results: Results, features: str) -> bool:
    from matplotlib import colormaps

    found = figure_data.axes(results, features)
    if not found:
        return False

    def place(axis: figure_data.Axis, value: float) -> float:
        reach = [*axis.values, *axis.ticks]
        return (value - min(reach)) / ((max(reach) - min(reach)) or 1)

    rows = zip(*(axis.values for axis in found), strict=True)
    heights = [[place(axis, value) for axis, value in zip(found, row, strict=True)] for row in rows]
    for line in sorted(heights, key=lambda h: h[-1], reverse=results.small_is_good):
        shade = line[-1] if results.small_is_good else 1 - line[-1]
        axes.plot(range(len(found)), line, color=colormaps[SCALE](shade), linewidth=1.2, alpha=0.8)
    for i, axis in enumerate(found):
        axes.axvline(i, color="black", linewidth=0.8)
        for tick, text in zip(axis.ticks, axis.texts, strict=True):
            box = {"facecolor": "white", "alpha": 0.7, "linewidth": 0, "pad": 1}
            axes.text(
                i,
                place(axis, tick),
                f" {text}",
                va="center",
                fontsize=7,
                bbox=box,
                parse_math=False,
            )
    axes.set_xticks(range(len(found)), [axis.name for axis in found])
    axes.set_yticks([])
    return True


def _pareto(axes: Any, results: Results, features: str) -> bool:
    found = figure_data.front(results, features)
    if found is None:
        return False
    _draw_settings(axes, results, found.settings, "seconds_per_image")
    x = [s.values["seconds_per_image"].mean for s in found.best]
    y = [s.values[results.metric].mean for s in found.best]
    axes.step(x, y, where="post", color="black", linewidth=1.2, label="Pareto front", zorder=1)
    seconds = [s.values["seconds_per_image"].mean for s in found.settings]
    if min(seconds) > 0:
        axes.set_xscale("log")
        at = figure_data.ticks(min(seconds), max(seconds))
        axes.set_xticks(at, [f"{t:g}" for t in at])
        axes.minorticks_off()
    axes.set_xlabel("seconds per image")
    axes.legend(frameon=False, fontsize=8)
    return True


def _energy(axes: Any, results: Results, features: str) -> bool:
    settings = results.measured(features, "kinetic_path_energy")
    if settings:
        _draw_settings(axes, results, settings, "kinetic_path_energy")
        axes.set_xlabel("kinetic path energy")
    return bool(settings)


def _losses(results: Results, path: Path) -> bool:
    import matplotlib.pyplot as plt

    found = {kind: figure_data.loss_curves(results, kind)[0] for kind in ("teacher", "student")}
    found = {kind: lines for kind, lines in found.items() if lines}
    if not found:
        return False
    figure, panels = plt.subplots(
        1, len(found), figsize=(7.2 * len(found), 4.6), dpi=150, squeeze=False
    )
    for axes, (kind, lines) in zip(panels[0], found.items(), strict=True):
        _draw_lines(axes, lines, markers=False)
        if all(p.mean > 0 for line in lines for _, p in line.points):
            axes.set_yscale("log")
        axes.set_xlabel("training step")
        axes.set_ylabel(f"loss of the {kind}s")
    return _saved(figure, path)


def _watched(results: Results, path: Path) -> bool:
    import matplotlib.pyplot as plt

    curves = figure_data.fid_curves(results)
    if not curves:
        return False
    figure, panels = plt.subplots(
        1, len(curves), figsize=(7.2 * len(curves), 4.6), dpi=150, squeeze=False
    )
    for axes, (scale, (lines, _)) in zip(panels[0], curves.items(), strict=True):
        _draw_lines(axes, lines, markers=True)
        _scale(axes, "fid", [p.mean for line in lines for _, p in line.points])
        axes.set_xlabel("training step")
        axes.set_title(f"teachers while they train ({scale})", fontsize=10, parse_math=False)
    return _saved(figure, path)


def _samples(results: Results, path: Path) -> bool:
    import matplotlib.pyplot as plt

    from orchestrator.reports.sample_strips import strips

    found = [strip for features in results.features for strip in strips(results, features)[0]][
        :STRIPS
    ]
    if not found:
        return False
    high, wide = (max(strip.pixels.shape[i] for strip in found) for i in (0, 1))
    row = high + max(2, high // 6)
    canvas = np.full((row * len(found), wide, 3), 255, np.uint8)
    figure, axes = plt.subplots(figsize=(9, max(1.0, 9 * len(canvas) / wide)), dpi=150)
    for i, strip in enumerate(found):
        canvas[i * row : i * row + strip.pixels.shape[0], : strip.pixels.shape[1]] = strip.pixels
        text = f"{strip.label}, NFE {strip.nfe}  "
        axes.text(
            0, i * row + high / 2, text, ha="right", va="center", fontsize=7, parse_math=False
        )
    axes.imshow(canvas, interpolation="nearest")
    axes.set_axis_off()
    return _saved(figure, path)


def trajectories_of_points(results: Results, path: Path) -> bool:
    """The ways of the same samples from noise to data, a panel for each kind of path, by the first
    finished teacher of each; False where the data is no points or no teacher is finished."""
    records = results.records
    teachers = finished_teachers(records)
    if not teachers:
        return False
    import matplotlib.pyplot as plt

    from orchestrator.host import machine
    from orchestrator.work import building, point_metrics

    machine.limit_threads()
    figure, panels = plt.subplots(
        1, len(teachers), figsize=(4 * len(teachers), 4.3), dpi=150, squeeze=False
    )
    for axes, (kind, trial) in zip(panels[0], teachers.items(), strict=True):
        teacher, data = trial.chain[0], dataset_info.images(trial.config.data)
        model = building.trained(records.store, teacher, data)
        ways = point_metrics.ways(teacher, model, building.path(teacher, data))
        axes.scatter(*data.images[:1000].flatten(1).T, s=3, color="#BBBBBB", linewidths=0)
        axes.plot(*ways.permute(2, 0, 1), color=COLOURS[0], linewidth=0.8, alpha=0.8)
        axes.scatter(
            *ways[0].T,
            s=16,
            facecolors="white",
            edgecolors="black",
            linewidths=0.7,
            zorder=3,
            label="noise",
        )
        axes.scatter(
            *ways[-1].T, s=16, color=COLOURS[1], marker="s", linewidths=0, zorder=3, label="sample"
        )
        axes.set_title(kind.replace("_", " "))
        axes.set_aspect("equal")
        axes.set_xlim(-1.6, 1.6)
        axes.set_ylim(-1.6, 1.6)
    panels[0][0].legend(frameon=False, fontsize=8, loc="upper left")
    return _saved(figure, path)


def finished_teachers(records: Records) -> dict[str, Trial]:
    """For each kind of path the first trial on points whose teacher is finished."""
    found: dict[str, Trial] = {}
    for trial in records.plan.trials:
        kind = trial.config.path.kind
        if trial.facts.data.points and kind not in found and records.store.done(trial.chain[0].key):
            found[kind] = trial
    return found


def _draw_lines(axes: Any, lines: list[Line], markers: bool) -> None:
    """Prominent lines in colour, the others gray below them; students solid, teachers dashed."""
    told = 0
    for line in sorted(lines, key=lambda v: v.prominent):
        x, spread = [x for x, _ in line.points], [p.std for _, p in line.points]
        look: dict[str, Any] = {"color": GRAY, "linewidth": 0.7}
        if line.prominent:
            look = {
                "color": COLOURS[told % len(COLOURS)],
                "linewidth": 1.6,
                "label": line.label.replace("$", r"\$"),
            }
            look |= (
                {"marker": MARKERS[told // len(COLOURS) % len(MARKERS)], "markersize": 5}
                if markers
                else {}
            )
            told += 1
        axes.errorbar(
            x,
            [p.mean for _, p in line.points],
            yerr=spread if any(spread) else None,
            capsize=3,
            linestyle="-" if line.student or not markers else "--",
            **look,
        )
    axes.grid(True, which="major", alpha=0.3)
    longest = max((len(line.label) for line in lines if line.prominent), default=0)
    below = {
        "loc": "upper center",
        "bbox_to_anchor": (0.5, -0.14),
        "ncols": 2 if longest < 50 else 1,
    }
    axes.legend(frameon=False, fontsize=7, **(below if told > 5 else {}))


def _draw_settings(axes: Any, results: Results, settings: list[SeedGroup], x: str) -> None:
    """The metric of each setting against `x`, a colour and marker for each network; teachers are
    hollow."""
    for i, (network, members) in enumerate(figure_data.by_network(results, settings).items()):
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
    _scale(axes, results.metric, [s.values[results.metric].mean for s in settings])
    axes.grid(True, which="major", alpha=0.3)
    axes.legend(frameon=False, fontsize=8)


def _scale(axes: Any, metric: str, values: list[float]) -> None:
    axes.set_ylabel(said(metric))
    if logarithmic(metric, values):
        axes.set_yscale("log")
        at = figure_data.ticks(min(values), max(values))
        axes.set_yticks(at, [f"{t:g}" for t in at])
    axes.minorticks_off()


def _saved(figure: Any, path: Path, wanted: bool = True) -> bool:
    import matplotlib.pyplot as plt

    if wanted:
        legends = [legend for axes in figure.axes if (legend := axes.get_legend())]
        for (
            legend
        ) in legends:  # one below its axes makes the figure larger, and not the axes smaller
            legend.set_in_layout(False)
        figure.tight_layout()
        for legend in legends:
            legend.set_in_layout(True)
        figure.savefig(path, bbox_inches="tight")
    plt.close(figure)
    return wanted
