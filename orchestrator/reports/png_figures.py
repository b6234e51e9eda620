"""The figures of the report as PNG files in the sweep's figures/, for papers and for MLflow."""

from pathlib import Path
from typing import Any

import numpy as np

from orchestrator.host import figure as figures
from orchestrator.plan import data as dataset_info
from orchestrator.plan.plan import Trial
from orchestrator.reports import figure_data, png_panels, training_images
from orchestrator.reports.aggregates import Results
from orchestrator.reports.figure_data import COLOURS
from orchestrator.store import layout
from orchestrator.sweeps.records import Records

STRIPS = 24  # strips of samples in one figure, at most


def write_figures(records: Records) -> list[Path]:
    """Write all figures that the results allow into the sweep's figures/; returns their paths."""
    with (records.folder / layout.FIGURES).staged() as folder:
        results = Results(records)
        return _write_figures(results, folder) + _write_training_images(results.records, folder)


def _write_figures(results: Results, folder: Path) -> list[Path]:
    by_features: dict[str, png_panels.PlotPanel] = {
        f"{metric}_vs_nfe": png_panels.against_nfe(metric) for metric in results.metrics
    }
    by_features |= {
        **dict.fromkeys(_two_settings(results), png_panels.two_settings),
        "parallel": png_panels.parallel,
        "progress": png_panels.progress,
        "importances": png_panels.importances,
        "pareto": png_panels.pareto,
        "energy": png_panels.energy,
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


def _two_settings(results: Results) -> list[str]:
    """The name of the figure of two swept settings, if there is one."""
    found = (figure_data.two_settings(results, features) for features in results.features)
    return list(dict.fromkeys(best.figure for best in found if best is not None))


def _write_training_images(records: Records, folder: Path) -> list[Path]:
    """Write training images of each data set as a network sees them; returns the paths."""
    pngs = [panel.png for panel in training_images.panels(records) if panel.png is not None]
    names = [f"real-{number}.png" for number in range(len(pngs))]
    if len(pngs) == 1:
        names = ["real.png"]
    paths = [folder / name for name in names]
    for path, png in zip(paths, pngs, strict=True):
        path.write_bytes(png)
    return paths


def _save_panels(results: Results, path: Path, plot: png_panels.PlotPanel) -> bool:
    """Save a panel for each feature extractor: their numbers do not compare."""
    count = len(results.features)
    if not count:
        return False
    figure, panels = figures.panels(count, (7.2 * count, 4.6))
    name = results.records.plan.experiment.name
    plotted = []
    for axes, features in zip(panels, results.features, strict=True):
        plotted.append(plot(axes, results, features))
        axes.set_title(f"{name} ({features})", fontsize=10, parse_math=False)
        if not plotted[-1]:
            axes.set_axis_off()
    return _save(figure, path, any(plotted))


def _losses(results: Results, path: Path) -> bool:
    curves = {kind: figure_data.loss_curves(results, kind)[0] for kind in ("teacher", "student")}
    curves = {kind: lines for kind, lines in curves.items() if lines}
    if not curves:
        return False
    figure, panels = figures.panels(len(curves), (7.2 * len(curves), 4.6))
    for axes, (kind, lines) in zip(panels, curves.items(), strict=True):
        png_panels.plot_lines(axes, lines, markers=False)
        if all(p.mean > 0 for line in lines for _, p in line.points):
            axes.set_yscale("log")
        axes.set_xlabel("training step")
        axes.set_ylabel(f"loss of the {kind}s")
    return _save(figure, path)


def _fid_while_training(results: Results, path: Path) -> bool:
    curves = figure_data.fid_curves(results)
    if not curves:
        return False
    figure, panels = figures.panels(len(curves), (7.2 * len(curves), 4.6))
    for axes, (scale, (lines, _)) in zip(panels, curves.items(), strict=True):
        png_panels.plot_lines(axes, lines, markers=True)
        png_panels.label_metric_axis(
            axes, "fid", [p.mean for line in lines for _, p in line.points]
        )
        axes.set_xlabel("training step")
        axes.set_title(f"FID during training ({scale})", fontsize=10, parse_math=False)
    return _save(figure, path)


def _samples(results: Results, path: Path) -> bool:
    from orchestrator.reports.sample_strips import Strip, real_strips, strips

    every: list[Strip] = []
    for features in results.features:
        sampled = strips(results, features)[0]
        every += [*real_strips(results, features), *sampled] if sampled else []
    shown = every[:STRIPS]
    if not shown:
        return False
    height, width = (max(strip.pixels.shape[i] for strip in shown) for i in (0, 1))
    row = height + max(2, height // 6)
    canvas = np.full((row * len(shown), width, 3), 255, np.uint8)
    figure, (axes,) = figures.panels(1, (9, max(1.0, 9 * len(canvas) / width)))
    style: dict[str, Any] = {"ha": "right", "va": "center", "fontsize": 7, "parse_math": False}
    for i, strip in enumerate(shown):
        top = i * row
        canvas[top : top + strip.pixels.shape[0], : strip.pixels.shape[1]] = strip.pixels
        axes.text(0, top + height / 2, f"{strip.title}  ", **style)
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
    from orchestrator.host import machine

    machine.limit_threads()
    figure, panels = figures.panels(len(teachers), (4 * len(teachers), 4.3))
    for axes, (kind, trial) in zip(panels, teachers.items(), strict=True):
        _plot_trajectories(axes, records, trial)
        axes.set_title(kind.replace("_", " "))
    panels[0].legend(frameon=False, fontsize=8, loc="upper left")
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
        done = trial.config.data.has_density and records.store.done(trial.chain[0].key)
        if kind not in teachers and done:
            teachers[kind] = trial
    return teachers


def _save(figure: Any, path: Path, wanted: bool = True) -> bool:
    if wanted:
        legends = [axes.get_legend() for axes in figure.axes if axes.get_legend()]
        for legend in legends:  # a legend below the axes enlarges the figure, not shrinks the axes
            legend.set_in_layout(False)
        figure.tight_layout()
        for legend in legends:
            legend.set_in_layout(True)
        figure.savefig(path, bbox_inches="tight")
    return wanted
