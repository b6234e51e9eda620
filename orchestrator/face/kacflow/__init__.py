"""Kac flows from a notebook: `import kacflow as kf`.

`sweep`, `train`, `distill` and `evaluate` run an experiment; `open` reads a finished one; `load` gives
a trained network to sample; `compare` lays sweeps side by side; `experiment` builds a file's settings.
What they are made of: `orchestrator.notebook`, and `kaccore` for the mathematics."""

from importlib.metadata import version

from orchestrator.notebook import (
    Comparison,
    Images,
    Network,
    Run,
    compare,
    distill,
    evaluate,
    experiment,
    load,
    sweep,
    train,
)
from orchestrator.notebook import open_run as open

__version__ = version("kacflow")

__all__ = [
    "Comparison",
    "Images",
    "Network",
    "Run",
    "compare",
    "distill",
    "evaluate",
    "experiment",
    "load",
    "open",
    "sweep",
    "train",
]
