"""The data sets, one module each: its settings, what is known before it is read, how it is read."""

# in the order in which messages and docs/reference.md name them
# isort: off
from orchestrator.methods.datasets import digits
from orchestrator.methods.datasets import mnist
from orchestrator.methods.datasets import cifar10
from orchestrator.methods.datasets import celeba64
from orchestrator.methods.datasets import lsun_bedroom256
from orchestrator.methods.datasets import folder
from orchestrator.methods.datasets import grid9
# isort: on

__all__ = ["celeba64", "cifar10", "digits", "folder", "grid9", "lsun_bedroom256", "mnist"]
