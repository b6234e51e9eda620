"""The distillers, one module each: its settings, its students, how each is trained and sampled."""

# in the order in which messages and docs/reference.md name them
# isort: off
from orchestrator.methods.distillers import endpoint
from orchestrator.methods.distillers import progressive
from orchestrator.methods.distillers import consistency
from orchestrator.methods.distillers import flow_map
from orchestrator.methods.distillers import matching
from orchestrator.methods.distillers import pairs
from orchestrator.methods.distillers import adversarial
from orchestrator.methods.distillers import programme
# isort: on

__all__ = [
    "adversarial",
    "consistency",
    "endpoint",
    "flow_map",
    "matching",
    "pairs",
    "programme",
    "progressive",
]
