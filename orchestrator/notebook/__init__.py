"""Experiments from Python: what `import kacflow as kf` has.

The functions do what the commands do, through the same code. A fault of the user is a ValueError
with the message of the command."""

from orchestrator.notebook.network import Images, Network, load
from orchestrator.notebook.opened import Comparison, Run, compare, open_run
from orchestrator.notebook.running import distill, evaluate, experiment, sweep, train

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
    "open_run",
    "sweep",
    "train",
]
