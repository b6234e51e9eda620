"""The feature extractors, one module each: its name, the data that it suits, its outputs."""

# in the order in which messages name them
# isort: off
from orchestrator.methods.features import digits_cnn
from orchestrator.methods.features import mnist_cnn
from orchestrator.methods.features import own
from orchestrator.methods.features import inception
from orchestrator.methods.features import dinov2
from orchestrator.methods.features import points
# isort: on

__all__ = ["digits_cnn", "dinov2", "inception", "mnist_cnn", "own", "points"]
