"""Matplotlib figures that are written to files. Pyplot is not used: it has one backend for the whole
process, and in a notebook that is the user's."""

from typing import Any


def panels(count: int, size: tuple[float, float], dpi: int = 150) -> tuple[Any, list[Any]]:
    """A figure of `size` (width, height) in inches with `count` panels in a row: it and their axes."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, dpi=dpi)
    return figure, list(figure.subplots(1, count, squeeze=False)[0])
