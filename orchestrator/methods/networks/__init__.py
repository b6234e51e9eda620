"""The networks, one module each: its settings, how it is built, its rules."""

# in the order in which messages and docs/reference.md name them
# isort: off
from orchestrator.methods.networks import unet
from orchestrator.methods.networks import dit
from orchestrator.methods.networks import mlp
# isort: on

__all__ = ["dit", "mlp", "unet"]
