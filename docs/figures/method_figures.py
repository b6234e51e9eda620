"""The figures of docs/method.md: `make figures`, or `python docs/figures/method_figures.py
[FOLDER]`.

Each PNG keeps some of the numbers that it was drawn of: a test computes them anew and so finds out
whether the picture still shows what the code does."""

import json
import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib
import method_arrays
import numpy as np
from method_arrays import PATHS, POINTS, SHOWN, USED, Arrays, S
from numpy.typing import NDArray
from PIL.PngImagePlugin import PngInfo

from orchestrator.reports.figure_data import COLOURS, GRAY

matplotlib.use("Agg")
from matplotlib import pyplot as plt

IMAGES = Path(__file__).parents[1] / "images"
KEPT = "plotted"  # the PNG's text with the numbers
SPARSE = 40  # of them along each axis of an array, about
STYLE: dict[Any, Any] = {
    "font.size": 8, "axes.titlesize": 9, "legend.fontsize": 7, "axes.spines.top": False, "axes.spines.right": False,
}  # fmt: skip


def draw_process(arrays: Arrays, figure: Any) -> None:
    left, *others = figure.subplots(1, 4, width_ratios=[1.7, 1, 1, 1])
    t = arrays["t"]
    for i, way in enumerate(arrays["brownian"]):
        left.plot(
            t, way, color=GRAY, linewidth=0.8, label=None if i else f"Brownian motion, s = {S:g}"
        )
    for i, way in enumerate(arrays["kac"]):
        label = None if i else f"Kac, a = {SHOWN.damping:g}, c = {SHOWN.speed:g}"
        left.plot(t, way, color=COLOURS[0], linewidth=1.3, label=label)
    for sign in (-1, 1):
        label = "light cone, ±c t" if sign > 0 else None
        left.plot(
            t, sign * SHOWN.speed * t, color="black", linewidth=1, linestyle="--", label=label
        )
    left.set(xlabel="time t", ylabel="position x (length)", xlim=(0, 1), ylim=(-1.3, 1.3))
    left.legend(frameon=False, loc="upper left")
    for i, axes in enumerate(others):
        time = arrays["at"][i]
        mass = arrays["atom"][i]
        cone = SHOWN.speed * arrays["at"][i]
        axes.plot(
            arrays["normal"][i], arrays["x"], color=COLOURS[1], linestyle="--", label="normal law"
        )
        axes.plot(arrays["density"][i], arrays["x"], color=COLOURS[0], label="Kac")
        for side in (-cone, cone):
            axes.plot([0, 3.2], [side, side], color=COLOURS[0], linewidth=0.8)
            axes.plot([3.2], [side], color=COLOURS[0], marker=">", markersize=5)
            axes.annotate(f"mass {mass:.2g}", (3.1, side), (0, 3 if side > 0 else -3), textcoords="offset points",
                          ha="right", va="bottom" if side > 0 else "top", fontsize=7)  # fmt: skip
        axes.set(
            title=f"t = {time:g}", xlabel="density (1/length)", xlim=(0, 3.5), ylim=(-1.3, 1.3)
        )
        axes.tick_params(labelleft=False)
    others[0].legend(frameon=False, loc="upper right")


def draw_velocity(arrays: Arrays, figure: Any) -> None:
    left, right = figure.subplots(1, 2)
    for i, time in enumerate(arrays["at"]):
        shown = np.abs(arrays["diffusion"][i]) < 1.2  # the legend lies below
        left.plot(
            arrays["x"][shown],
            arrays["diffusion"][i][shown],
            color=COLOURS[i],
            linewidth=0.8,
            linestyle="--",
        )
        look = {"linewidth": 2, "zorder": 5 - i, "label": f"Kac, t = {time:g}"}
        left.plot(arrays["x"], arrays["kac"][i], color=COLOURS[i], **look)
        cone = SHOWN.speed * time
        left.plot([-cone, cone], [-SHOWN.speed, SHOWN.speed], "o", color=COLOURS[i], markersize=4)
    left.plot([], [], color="black", linewidth=0.8, linestyle="--", label="diffusion, x/(2t)")
    for sign in (-1, 1):
        left.axhline(sign * SHOWN.speed, color="black", linewidth=0.8, linestyle=":")
    left.annotate(f"c = {SHOWN.speed:g}", (-1, SHOWN.speed), (2, 2), textcoords="offset points")
    left.set(
        xlabel="noise x (length)",
        ylabel="velocity v(x, t) (length/time)",
        xlim=(-1, 1),
        ylim=(-1.7, 1.3),
    )
    left.legend(frameon=False, loc="lower right", ncols=2)
    lines = {"diffusion": "--", "flow matching": "-.", "kac linear": "-", "kac quadratic": "-"}
    names = {"kac linear": "Kac, linear clock", "kac quadratic": "Kac, quadratic clock"}
    for colour, (name, style) in zip((1, 2, 3, 0), lines.items(), strict=True):
        right.plot(
            arrays["t"],
            arrays[f"rms {name}"],
            style,
            color=COLOURS[colour],
            label=names.get(name, name),
        )
    right.axhline(USED.speed, color="black", linewidth=0.8, linestyle=":")
    right.annotate(
        f"c = {USED.speed:g}", (1, USED.speed), (-2, 2), textcoords="offset points", ha="right"
    )
    right.set(xlabel="time t, from data to noise", ylabel="root mean square of the\nnoise's velocity (length/time)",
              xscale="log", yscale="log", xlim=(1e-3, 1))  # fmt: skip
    right.legend(frameon=False, loc="lower right")


def draw_paths(arrays: Arrays, figure: Any) -> None:
    panels = figure.subplots(1, 3, sharey=True)
    t, x = arrays["t"], arrays["x"]
    for axes, name in zip(panels, PATHS, strict=True):
        shade = arrays[f"density {name}"].T
        axes.pcolormesh(
            t[:-1:4], x, shade / shade.max(0), cmap="Greys", vmin=0, vmax=2, shading="nearest"
        )
        if name.startswith("Kac"):
            for point in POINTS:
                for edge in (USED.speed * t**2, -USED.speed * t**2):
                    axes.plot(
                        t, (1 - t) * point + edge, color=COLOURS[1], linewidth=1, linestyle=":"
                    )
        axes.plot(t, arrays[f"ways {name}"], color=COLOURS[0], linewidth=0.8)
        axes.plot(np.zeros(2), POINTS, "s", color=COLOURS[1], markersize=5, clip_on=False, zorder=3)
        axes.set(title=name, xlabel="time t", xlim=(1, 0), ylim=(-1.2, 1.2))
    panels[0].set_ylabel("position x (length)")


def draw_distillation(arrays: Arrays, figure: Any) -> None:
    left, right = figure.subplots(1, 2)
    inner = np.linspace(1, 0, len(arrays["teacher"]))
    looks: dict[str, tuple[Any, str, dict[str, Any]]] = {
        "teacher, 20 steps": (inner, "teacher", {"color": COLOURS[0], "marker": "."}),
        "student, 4 steps": (
            arrays["t"],
            "student",
            {"color": COLOURS[1], "marker": "s", "markersize": 4},
        ),
        "teacher, 4 Euler steps": (
            arrays["t"],
            "undistilled",
            {"color": "black", "linestyle": "--", "marker": "x"},
        ),
    }
    for label, (t, name, look) in looks.items():
        for i, way in enumerate(arrays[name].T):
            left.plot(t, way, linewidth=1.1, label=None if i else label, **look)
    left.set(
        xlabel="time t",
        ylabel="position x (length)",
        xlim=(1.02, -0.02),
        ylim=(-0.7, 0.9),
        xticks=arrays["t"],
    )
    left.grid(True, axis="x", alpha=0.4)
    left.legend(frameon=False)
    right.plot(
        arrays["x"], arrays["velocity"], color="black", linestyle="--", label="teacher, u(x, 1)"
    )
    for colour, m in zip((2, 1, 0), (20, 4, 1), strict=True):
        right.plot(
            arrays["x"],
            arrays[f"taught {m}"],
            color=COLOURS[colour],
            label=f"student, {m} step{'s' * (m > 1)}",
        )
    right.set(xlabel="noise x (length)", ylabel="velocity at t = 1 (length/time)", xlim=(-1.2, 1.2))
    right.legend(frameon=False)


FIGURES: dict[str, tuple[Callable[[], Arrays], Callable[[Arrays, Any], None]]] = {
    "method_process": (method_arrays.process, draw_process),
    "method_velocity": (method_arrays.velocity, draw_velocity),
    "method_paths": (method_arrays.paths, draw_paths),
    "method_distillation": (method_arrays.distillation, draw_distillation),
}


def thinned(array: NDArray[np.float64]) -> list[Any]:
    """As many of an array's numbers as tell it from another, to four decimals."""
    some = array[tuple(slice(None, None, math.ceil(n / SPARSE)) for n in array.shape)]
    return list(some.round(4).tolist())


def write(name: str, folder: Path) -> Path:
    """Compute and draw the figure `name` into `folder`; returns its path."""
    compute, draw = FIGURES[name]
    arrays = compute()
    with plt.rc_context(STYLE):
        figure = plt.figure(figsize=(8, 2.4), dpi=150, layout="constrained")
        draw(arrays, figure)
        kept = PngInfo()
        kept.add_text(KEPT, json.dumps({k: thinned(v) for k, v in arrays.items()}), zip=True)
        figure.savefig(folder / f"{name}.png", pil_kwargs={"pnginfo": kept})
        plt.close(figure)
    return folder / f"{name}.png"


if __name__ == "__main__":
    for each in FIGURES:
        print(write(each, Path(sys.argv[1]) if len(sys.argv) > 1 else IMAGES))
