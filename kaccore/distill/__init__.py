"""Distillers: each a loss over a frozen teacher."""

from kaccore.distill.adversarial import AdversarialLoss
from kaccore.distill.consistency import ConsistencyDistiller, UniformJumps, sample_consistency
from kaccore.distill.distiller import Distiller
from kaccore.distill.endpoint import EndpointDistiller
from kaccore.distill.flow_map import FlowMapDistiller
from kaccore.distill.generated import GeneratedDistiller, StudentAndOthers
from kaccore.distill.matching import MatchingLoss
from kaccore.distill.pairs import NewPairs, Pairs, PairsLoss
from kaccore.distill.progressive import ProgressiveDistiller

__all__ = [
    "AdversarialLoss",
    "ConsistencyDistiller",
    "Distiller",
    "EndpointDistiller",
    "FlowMapDistiller",
    "GeneratedDistiller",
    "MatchingLoss",
    "NewPairs",
    "Pairs",
    "PairsLoss",
    "ProgressiveDistiller",
    "StudentAndOthers",
    "UniformJumps",
    "sample_consistency",
]
