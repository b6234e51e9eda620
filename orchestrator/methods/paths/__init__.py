"""The paths, one module each: its settings, which of them are hashed, how it is built."""

# in the order in which messages and docs/reference.md name them
# isort: off
from orchestrator.methods.paths import kac
from orchestrator.methods.paths import diffusion
from orchestrator.methods.paths import flow_matching
from orchestrator.methods.paths import quantile
# isort: on

__all__ = ["diffusion", "flow_matching", "kac", "quantile"]
