"""Figures of a sweep as PNG."""

from collections import defaultdict
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from orchestrator.plan import Trial, intervals_text
from orchestrator.records import Records

# Okabe and Ito's colours, told apart by every eye, with markers that tell them apart in print
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")


def write_figures(records: Records) -> list[Path]:
    """All figures that the results allow, into the sweep's figures/; returns their paths."""
    path = records.folder / "figures" / "fid_vs_nfe.png"
    return [path] if fid_against_nfe(records, path) else []


def fid_against_nfe(records: Records, path: Path) -> bool:
    """FID against NFE, both logarithmic, a line for every setting but the number of steps; False without any FID."""
    lines = fid_lines(records)
    if not lines:
        return False
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(7.2, 4.6), dpi=150)
    for i, (label, points) in enumerate(sorted(lines.items())):
        colour, marker = COLOURS[i % len(COLOURS)], MARKERS[i // len(COLOURS) % len(MARKERS)]
        x, y, spread = zip(*points, strict=True)
        dash = "-" if label.startswith("student") else "--"
        axes.errorbar(x, y, yerr=spread if any(spread) else None, label=label, color=colour, marker=marker,
                      linestyle=dash, linewidth=1.6, markersize=5, capsize=3)  # fmt: skip
    axes.set_xscale("log")
    axes.set_yscale("log")
    ticks = sorted({p[0] for points in lines.values() for p in points})
    axes.set_xticks(ticks, [str(t) for t in ticks])
    axes.minorticks_off()
    # 1, 2, 5, 10: a range within one decade needs ticks too; a narrower one more of them
    low, high = min(p[1] for v in lines.values() for p in v), max(p[1] for v in lines.values() for p in v)
    subs = (1, 2, 5) if high > 4 * low else (1, 1.2, 1.4, 1.6, 1.8, 2, 2.5, 3, 3.5, 4, 4.5, 5, 5.5, 6, 7, 8, 9)
    axes.yaxis.set_major_locator(matplotlib.ticker.LogLocator(subs=subs))
    axes.yaxis.set_major_formatter(matplotlib.ticker.FormatStrFormatter("%g"))
    axes.set_xlabel("network evaluations per image (NFE)")
    axes.set_ylabel(f"FID ({', '.join(sorted(features_of(records)))})")
    axes.grid(True, which="major", alpha=0.3)
    axes.set_title(records.plan.experiment.name)
    axes.legend(frameon=False, fontsize=8)
    figure.tight_layout()
    figure.savefig(path)
    plt.close(figure)
    return True


def fid_lines(records: Records) -> dict[str, list[tuple[int, float, float]]]:
    """Points (nfe, mean FID, spread) by the label of everything else that differs between trials.

    Trials that differ in their seed alone make one point: their mean, and the standard deviation between them. A
    single trial's spread is that of its sampling seeds.
    """
    found: dict[str, dict[int, list[tuple[float, float]]]] = defaultdict(lambda: defaultdict(list))
    for trial in records.plan.trials:
        measured = records.measured(trial)
        if "fid" in measured:
            found[_line_label(trial)][measured["nfe"]].append((measured["fid"], measured.get("fid_std", 0.0)))
    lines: dict[str, list[tuple[int, float, float]]] = {}
    for label, points in found.items():
        lines[label] = []
        for nfe, values in sorted(points.items()):
            fids = [fid for fid, _ in values]
            lines[label].append((nfe, mean(fids), stdev(fids) if len(fids) > 1 else values[0][1]))
    return lines


def _line_label(trial: Trial) -> str:
    sampling = trial.config.sampling
    student = sampling.model == "student"
    label = f"student {intervals_text(trial.config)}" if student else f"teacher, {sampling.solver}"
    shown = ("sampling.steps", "sampling.model", "sampling.solver", "seed", "distill.intervals")
    rest = {k: v for k, v in trial.overrides.items() if k not in shown}
    return ", ".join([label, *(f"{k.rsplit('.', 1)[-1]} {v}" for k, v in rest.items())])


def features_of(records: Records) -> set[str]:
    """The names of the features that the sweep's figures rest on."""
    names: set[Any] = {records.measured(t).get("fid_features") for t in records.plan.trials}
    return {str(n) for n in names if n}
