"""Finite-speed generative flows in PyTorch: the Kac process, paths, networks, losses, solvers and distillers."""

from kaccore.distill import EndpointDistiller
from kaccore.losses import flow_matching_loss
from kaccore.paths import DiffusionPath, FlowMatchingPath, KacPath
from kaccore.process import KacProcess
from kaccore.sampling import Samples, sample
from kaccore.solvers import SOLVERS

__all__ = [
    "SOLVERS",
    "DiffusionPath",
    "EndpointDistiller",
    "FlowMatchingPath",
    "KacPath",
    "KacProcess",
    "Samples",
    "flow_matching_loss",
    "sample",
]
