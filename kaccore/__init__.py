"""Finite-speed generative flows in PyTorch: the Kac process, paths, networks, losses, solvers and
distillers.

The names below are imported when they are first used: code that needs only `kaccore.files` does not
wait for torch, nor hold its half a gigabyte."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kaccore.distill import (
        ConsistencyDistiller,
        EndpointDistiller,
        GeneratedDistiller,
        MatchingLoss,
        ProgressiveDistiller,
        sample_consistency,
    )
    from kaccore.losses import flow_matching_loss
    from kaccore.paths import DiffusionPath, FlowMatchingPath, KacPath
    from kaccore.process import KacProcess
    from kaccore.quantile_path import QuantilePath
    from kaccore.sampling import Samples, sample
    from kaccore.solvers import SOLVERS

__all__ = [
    "SOLVERS",
    "ConsistencyDistiller",
    "DiffusionPath",
    "EndpointDistiller",
    "FlowMatchingPath",
    "GeneratedDistiller",
    "KacPath",
    "KacProcess",
    "MatchingLoss",
    "ProgressiveDistiller",
    "QuantilePath",
    "Samples",
    "flow_matching_loss",
    "sample",
    "sample_consistency",
]

_HOMES = {
    "ConsistencyDistiller": "distill",
    "EndpointDistiller": "distill",
    "GeneratedDistiller": "distill",
    "MatchingLoss": "distill",
    "ProgressiveDistiller": "distill",
    "sample_consistency": "distill",
    "flow_matching_loss": "losses",
    "DiffusionPath": "paths",
    "FlowMatchingPath": "paths",
    "KacPath": "paths",
    "KacProcess": "process",
    "QuantilePath": "quantile_path",
    "Samples": "sampling",
    "sample": "sampling",
    "SOLVERS": "solvers",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'kaccore' has no attribute {name!r}")
    value = getattr(import_module(f"kaccore.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return [*globals(), *_HOMES]
