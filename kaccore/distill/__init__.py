"""Distillers: each a loss over a frozen teacher."""

from kaccore.distill.consistency import ConsistencyDistiller, UniformJumps, sample_consistency
from kaccore.distill.distiller import Distiller
from kaccore.distill.endpoint import EndpointDistiller
from kaccore.distill.inverse import InverseDistiller, InversePair
from kaccore.distill.progressive import ProgressiveDistiller

__all__ = [
    "ConsistencyDistiller",
    "Distiller",
    "EndpointDistiller",
    "InverseDistiller",
    "InversePair",
    "ProgressiveDistiller",
    "UniformJumps",
    "sample_consistency",
]
