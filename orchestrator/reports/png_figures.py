"""The figures of the report as PNG files in the sweep's figures/, for papers and for MLflow."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from orchestrator.plan import data as dataset_info
from orchestrator.plan.plan import Trial
from orchestrator.reports import figure_data, training_images
from orchestrator.reports.aggregates import Results, SeedGroup, display_name, is_logarithmic
from orchestrator.reports.figure_data import COLOURS, GRAY, Line
from orchestrator.store import layout
from orchestrator.sweeps.records import Records

MARKERS = ("o", "s", "^", "D", "v", "P", "X")
SCALE = "cividis"
STRIPS = 24  # strips of samples in one figure, at most

# plots on axes the results on some features; returns False if there is nothing to plot
PlotPanel = Callable[[Any, Results, str], bool]


def write_figures(records: Records) -> list[Path]:
    """Write all figures that the results allow into the sweep's figures/; returns their paths."""
    import matplotlib

    matplotlib.use("Agg")
    with (records.folder / layout.FIGURES).staged() as folder:
        return _write_figures(Results(records), folder) + _write_training_images(records, folder)


def _write_figures(results: Results, folder: Path) -> list[Path]:
    by_features: dict[str, PlotPanel] = {
        f"{metric}_vs_nfe": _against_nfe(metric) for metric in results.metrics
    }
    by_features |= {
        "damping_speed": _damping_speed,
        "parallel": _parallel,
        "pareto": _pareto,
        "energy": _energy,
    }
    written = []
    for name, plot in by_features.items():
        path = folder / f"{name}.png"
        if _save_panels(results, path, plot):
            written.append(path)
    others = {
        "losses": _losses,
        "fid_while_training": _fid_while_training,
        "samples_by_nfe": _samples,
        "trajectories": trajectories_of_points,
    }
    for name, save in others.items():
        path = folder / f"{name}.png"
        if save(results, path):
            written.append(path)
    return written


def _write_training_images(records: Records, folder: Path) -> list[Path]:
    """Write training images of each data set as a network sees them; returns the paths."""
    pngs = [panel.png for panel in training_images.panels(records) if panel.png is not None]
    names = (
        ["real.png"] if len(pngs) == 1 else [f"real-{number}.png" for number in range(len(pngs))]
    )
    paths = [folder / name for name in names]
    for path, png in zip(paths, pngs, strict=True):
        path.write_bytes(png)
    return paths


def _save_panels(results: Results, path: Path, plot: PlotPanel) -> bool:
    """Save a panel for each feature extractor: their numbers do not compare."""
    import matplotlib.pyplot as plt

    count = len(results.features)
    if not count:
        return False
    figure, panels = plt.subplots(1, count, figsize=(7.2 * count, 4.6), dpi=150, squeeze=False)
    name = results.records.plan.experiment.name
    plotted = []
    for axes, features in zip(panels[0], results.features, strict=True):
        plotted.append(plot(axes, results, features))
        axes.set_title(f"{name} ({features})", fontsize=10, parse_math=False)
        if not plotted[-1]:
            axes.set_axis_off()
    return _save(figure, path, any(plotted))


def _against_nfe(metric: str) -> PlotPanel:
    def plot(axes: Any, results: Results, features: str) -> bool:
        lines = figure_data.nfe_lines(results, metric, features)
        if not lines:
            return False
        _plot_lines(axes, lines, markers=True)
        axes.set_xscale("log")
        nfe = sorted({x for line in lines for x, _ in line.points})
        axes.set_xticks(nfe, [f"{n:g}" for n in nfe])
        _label_metric_axis(axes, metric, [p.mean for line in lines for _, p in line.points])
        axes.set_xlabel("network evaluations per image (NFE)")
        return True

    return plot


def _damping_speed(axes: Any, results: Results, features: str) -> bool:
    from matplotlib.colors import LogNorm, Normalize

    best = figure_data.damping_speed(results, features)
    if best is None:
        return False
    numbers = list(best.values.values())
    log = is_logarithmic(results.metric, numbers)
    highest = max(numbers) * (1.01 if len(set(numbers)) == 1 else 1)
    norm = (LogNorm if log else Normalize)(min(numbers), highest)
    if best.grid:
        plotted = _heat_map(axes, best.values, norm)
    else:
        x, y = zip(*best.values, strict=True)
        plotted = axes.scatter(
            x, y, c=numbers, norm=norm, cmap=SCALE, edgecolors="black", linewidths=0.5
        )
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
    axes.set_xlabel("damping")
    axes.set_ylabel("speed")
    return True


def _heat_map(axes: Any, values: dict[tuple[float, float], float], norm: Any) -> Any:
    damping, speed = (sorted({pair[i] for pair in values}) for i in (0, 1))
    table = [[values.get((d, s), math.nan) for d in damping] for s in speed]
    image = axes.imshow(table, norm=norm, cmap=SCALE, origin="lower", aspect="auto")
    axes.set_xticks(range(len(damping)), [f"{d:g}" for d in damping])
    axes.set_yticks(range(len(speed)), [f"{s:g}" for s in speed])
    for (d, s), value in values.items():
        x, y = damping.index(d), speed.index(s)
        colour = "white" if norm(value) < 0.5 else "black"
        axes.text(x, y, f"{value:.3g}", ha="center", va="center", color=colour)
    return image


def _parallel(axes: Any, results: Results, features: str) -> bool:
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


def _pareto(axes: Any, results: Results, features: str) -> bool:
    front = figure_data.pareto_front(results, features)
    if front is None:
        return False
    _plot_groups(axes, results, front.groups, "seconds_per_image")
    x = [s.values["seconds_per_image"].mean for s in front.best]
    y = [s.values[results.metric].mean for s in front.best]
    axes.step(x, y, where="post", color="black", linewidth=1.2, label="Pareto front", zorder=1)
    seconds = [s.values["seconds_per_image"].mean for s in front.groups]
    if min(seconds) > 0:
        axes.set_xscale("log")
        at = figure_data.ticks(min(seconds), max(seconds))
        axes.set_xticks(at, [f"{t:g}" for t in at])
        axes.minorticks_off()
    axes.set_xlabel("seconds per image")
    axes.legend(frameon=False, fontsize=8)
    return True


def _energy(axes: Any, results: Results, features: str) -> bool:
    groups = results.measured(features, "kinetic_path_energy")
    if groups:
        _plot_groups(axes, results, groups, "kinetic_path_energy")
        axes.set_xlabel("kinetic path energy")
    return bool(groups)


def _losses(results: Results, path: Path) -> bool:
    import matplotlib.pyplot as plt

    curves = {kind: figure_data.loss_curves(results, kind)[0] for kind in ("teacher", "student")}
    curves = {kind: lines for kind, lines in curves.items() if lines}
    if not curves:
        return False
    figure, panels = plt.subplots(
        1, len(curves), figsize=(7.2 * len(curves), 4.6), dpi=150, squeeze=False
    )
    for axes, (kind, lines) in zip(panels[0], curves.items(), strict=True):
        _plot_lines(axes, lines, markers=False)
        if all(p.mean > 0 for line in lines for _, p in line.points):
            axes.set_yscale("log")
        axes.set_xlabel("training step")
        axes.set_ylabel(f"loss of the {kind}s")
    return _save(figure, path)


def _fid_while_training(results: Results, path: Path) -> bool:
    import matplotlib.pyplot as plt

    curves = figure_data.fid_curves(results)
    if not curves:
        return False
    figure, panels = plt.subplots(
        1, len(curves), figsize=(7.2 * len(curves), 4.6), dpi=150, squeeze=False
    )
    for axes, (scale, (lines, _)) in zip(panels[0], curves.items(), strict=True):
        _plot_lines(axes, lines, markers=True)
        _label_metric_axis(axes, "fid", [p.mean for line in lines for _, p in line.points])
        axes.set_xlabel("training step")
        axes.set_title(f"teachers during training ({scale})", fontsize=10, parse_math=False)
    return _save(figure, path)


def _samples(results: Results, path: Path) -> bool:
    import matplotlib.pyplot as plt

    from orchestrator.reports.sample_strips import strips

    every = [strip for features in results.features for strip in strips(results, features)[0]]
    shown = every[:STRIPS]
    if not shown:
        return False
    height, width = (max(strip.pixels.shape[i] for strip in shown) for i in (0, 1))
    row = height + max(2, height // 6)
    canvas = np.full((row * len(shown), width, 3), 255, np.uint8)
    figure, axes = plt.subplots(figsize=(9, max(1.0, 9 * len(canvas) / width)), dpi=150)
    style: dict[str, Any] = {"ha": "right", "va": "center", "fontsize": 7, "parse_math": False}
    for i, strip in enumerate(shown):
        top = i * row
        canvas[top : top + strip.pixels.shape[0], : strip.pixels.shape[1]] = strip.pixels
        axes.text(0, top + height / 2, f"{strip.label}, NFE {strip.nfe}  ", **style)
    axes.imshow(canvas, interpolation="nearest")
    axes.set_axis_off()
    return _save(figure, path)


def trajectories_of_points(results: Results, path: Path) -> bool:
    """Save trajectories of the same samples from noise to data: a panel for each kind of path, by
    its first finished teacher. Returns False for data other than points, or if no teacher is
    finished."""
    records = results.records
    teachers = finished_teachers(records)
    if not teachers:
        return False
    import matplotlib.pyplot as plt

    from orchestrator.host import machine

    machine.limit_threads()
    figure, panels = plt.subplots(
        1, len(teachers), figsize=(4 * len(teachers), 4.3), dpi=150, squeeze=False
    )
    for axes, (kind, trial) in zip(panels[0], teachers.items(), strict=True):
        _plot_trajectories(axes, records, trial)
        axes.set_title(kind.replace("_", " "))
    panels[0][0].legend(frameon=False, fontsize=8, loc="upper left")
    return _save(figure, path)


def _plot_trajectories(axes: Any, records: Records, trial: Trial) -> None:
    from orchestrator.work import building, point_metrics

    teacher, data = trial.chain[0], dataset_info.images(trial.config.data)
    model = building.trained(records.store, teacher, data)
    positions = point_metrics.ways(teacher, model, building.path(teacher, data))
    noise: dict[str, Any] = {"facecolors": "white", "edgecolors": "black", "linewidths": 0.7}
    sample: dict[str, Any] = {"color": COLOURS[1], "marker": "s", "linewidths": 0}
    axes.scatter(*data.images[:1000].flatten(1).T, s=3, color="#BBBBBB", linewidths=0)
    axes.plot(*positions.permute(2, 0, 1), color=COLOURS[0], linewidth=0.8, alpha=0.8)
    axes.scatter(*positions[0].T, s=16, zorder=3, label="noise", **noise)
    axes.scatter(*positions[-1].T, s=16, zorder=3, label="sample", **sample)
    axes.set_aspect("equal")
    axes.set_xlim(-1.6, 1.6)
    axes.set_ylim(-1.6, 1.6)


def finished_teachers(records: Records) -> dict[str, Trial]:
    """For each kind of path the first trial on points whose teacher is finished."""
    teachers: dict[str, Trial] = {}
    for trial in records.plan.trials:
        kind = trial.config.path.kind
        done = trial.facts.data.points and records.store.done(trial.chain[0].key)
        if kind not in teachers and done:
            teachers[kind] = trial
    return teachers


def _plot_lines(axes: Any, lines: list[Line], markers: bool) -> None:
    """Prominent lines in colour, the others gray below them; students solid, teachers dashed."""
    count = 0
    for line in sorted(lines, key=lambda line: line.prominent):
        x, spread = [x for x, _ in line.points], [p.std for _, p in line.points]
        style: dict[str, Any] = {"color": GRAY, "linewidth": 0.7}
        if line.prominent:
            label = line.label.replace("$", r"\$")
            style = {"color": COLOURS[count % len(COLOURS)], "linewidth": 1.6, "label": label}
            if markers:
                style |= {"marker": MARKERS[count // len(COLOURS) % len(MARKERS)], "markersize": 5}
            count += 1
        axes.errorbar(
            x,
            [p.mean for _, p in line.points],
            yerr=spread if any(spread) else None,
            capsize=3,
            linestyle="-" if line.student or not markers else "--",
            **style,
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
    _label_metric_axis(axes, results.metric, [s.values[results.metric].mean for s in groups])
    axes.grid(True, which="major", alpha=0.3)
    axes.legend(frameon=False, fontsize=8)


def _label_metric_axis(axes: Any, metric: str, values: list[float]) -> None:
    axes.set_ylabel(display_name(metric))
    if is_logarithmic(metric, values):
        axes.set_yscale("log")
        at = figure_data.ticks(min(values), max(values))
        axes.set_yticks(at, [f"{t:g}" for t in at])
    axes.minorticks_off()


def _save(figure: Any, path: Path, wanted: bool = True) -> bool:
    import matplotlib.pyplot as plt

    if wanted:
        legends = [axes.get_legend() for axes in figure.axes if axes.get_legend()]
        for legend in legends:  # a legend below the axes enlarges the figure, not shrinks the axes
            legend.set_in_layout(False)
        figure.tight_layout()
        for legend in legends:
            legend.set_in_layout(True)
        figure.savefig(path, bbox_inches="tight")
    plt.close(figure)
    return wanted
