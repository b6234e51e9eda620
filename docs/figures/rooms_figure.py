"""The figure of docs/architecture.md: which room imports which, read from the code; see `make
figures`.

    python docs/figures/rooms_figure.py [FOLDER]

The PNG keeps the imports that it was drawn of: a test compares them with those of today's code.
"""

import ast
import json
import sys
import textwrap
import tomllib
from collections import Counter
from pathlib import Path
from typing import Any

import grimp  # what import-linter reads the imports with
import matplotlib
from PIL.PngImagePlugin import PngInfo

from orchestrator.reports.figure_data import COLOURS, GRAY

matplotlib.use("Agg")
from matplotlib import pyplot as plt

ROOT = Path(__file__).parents[2]
IMAGES = ROOT / "docs" / "images"
KEPT = "imports"  # the PNG's text with the numbers
NAME = "rooms"
COMMANDS = "commands"
CORE = "kaccore"
WIDTH, HEIGHT = 2.0, 0.7  # of a box
LETTERS = 58  # in a line of it


def layers() -> list[list[str]]:
    """The rooms from top to bottom, those beside each other in one list, as the contract in
    pyproject.toml has them."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"][
        "contracts"
    ]
    rows = next(each["layers"] for each in contracts if each["type"] == "layers")
    rooms = [[name.strip() for name in row.split("|")] for row in rows]
    return [[COMMANDS], *rooms[1:], [CORE]]


def imports() -> Counter[tuple[str, str]]:
    """How many imports one room has of another, those inside functions included."""
    graph = grimp.build_graph(
        "kaccore", "orchestrator", cache_dir=None, exclude_type_checking_imports=True
    )
    found = Counter[tuple[str, str]]()
    known = {room for row in layers() for room in row}
    for module in graph.modules:
        for imported in graph.find_modules_directly_imported_by(module):
            edge = _room(module, known), _room(imported, known)
            if (
                edge[0] != edge[1] and imported != "orchestrator"
            ):  # the package alone, for its version
                found[edge] += 1
    return found


def _room(module: str, known: set[str]) -> str:
    package, *parts = module.split(".")
    if package == CORE:
        return CORE
    return parts[0] if parts and parts[0] in known else COMMANDS


def drawn(edges: Counter[tuple[str, str]]) -> list[tuple[str, str]]:
    """The imports that no others imply: of sweep -> store -> plan the picture leaves out sweep ->
    plan."""
    below = {upper: {lower for first, lower in edges if first == upper} for upper, _ in edges}

    def reached(room: str) -> set[str]:
        return below.get(room, set()).union(*(reached(each) for each in below.get(room, set())))

    return sorted(
        (a, b) for a, b in edges if not any(b in reached(other) for other in below[a] - {b})
    )


def purpose(room: str) -> str:
    """What a room is for: the first sentence of its package, in short lines."""
    if room == COMMANDS:
        return "python -m orchestrator.sweep and the like"
    package = ROOT / (CORE if room == CORE else f"orchestrator/{room}") / "__init__.py"
    sentence = (
        (ast.get_docstring(ast.parse(package.read_text())) or "")
        .replace("\n", " ")
        .split(". ")[0]
        .rstrip(".")
    )
    return textwrap.fill(sentence, LETTERS)


def draw(axes: Any, edges: Counter[tuple[str, str]]) -> None:
    """A box for each room, in layers, and an arrow for each import of `drawn`."""
    rows, at = layers(), dict[str, tuple[float, float]]()
    for number, row in enumerate(rows):
        for place, room in enumerate(row):
            at[room] = ((place - (len(row) - 1) / 2) * 1.15 * WIDTH, -float(number))
    for upper, lower in drawn(edges):
        (x, y), (to_x, to_y) = at[upper], at[lower]
        far = y - to_y > 1 and x == to_x  # round the boxes between them
        arrow = {
            "arrowstyle": "-|>",
            "color": COLOURS[0],
            "connectionstyle": f"arc3,rad={0.5 if far else 0}",
        }
        start, end = (x, y - HEIGHT / 2), (to_x, to_y + HEIGHT / 2)
        axes.annotate("", end, start, arrowprops={**arrow, "shrinkA": 0, "shrinkB": 0})
    for room, (x, y) in at.items():
        corner = (x - WIDTH / 2, y - HEIGHT / 2)
        axes.add_patch(
            plt.Rectangle(corner, WIDTH, HEIGHT, facecolor="white", edgecolor=GRAY, zorder=3)
        )
        axes.text(x, y + 0.17, room, ha="center", va="center", fontsize=9, weight="bold", zorder=4)
        axes.text(x, y - 0.1, purpose(room), ha="center", va="center", fontsize=6.5, zorder=4)
    axes.set(xlim=(-1.2 * WIDTH, 1.2 * WIDTH), ylim=(0.6 - len(rows), 0.5))
    axes.axis("off")


def write(folder: Path) -> Path:
    """Draw the figure into `folder`; returns its path."""
    edges = imports()
    figure, axes = plt.subplots(figsize=(8, 8.4), dpi=110, layout="constrained")
    draw(axes, edges)
    kept = PngInfo()
    kept.add_text(
        KEPT, json.dumps([[*edge, count] for edge, count in sorted(edges.items())]), zip=True
    )
    figure.savefig(folder / f"{NAME}.png", pil_kwargs={"pnginfo": kept})
    plt.close(figure)
    return folder / f"{NAME}.png"


if __name__ == "__main__":
    print(write(Path(sys.argv[1]) if len(sys.argv) > 1 else IMAGES))
