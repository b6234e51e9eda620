"""What a model does beside its last images: how its trajectories move, what they resemble, how
exact its field is.

    energy         kinetic path energy, largest speed, light-cone violations of the trajectories being sampled
    gap            student against teacher along the path, with the bound that their endpoints promise
    memorisation   nearest training images, the share of copies, and their rank correlation with the energy
    kac_identity   the residual of the Kac equations of a field on a grid in one dimension
    trajectories   the positions themselves, for figures

`gap` and `trajectories` sample, and the sampler measures energy: import those two as modules of
their own."""

from kaccore.diagnostics.kac_identity import kac_identity_residual
from kaccore.diagnostics.memorisation import memorisation_fraction, nearest, rank_correlation
from kaccore.energy import KineticEnergy, TrajectorySummary, light_cone_bound

__all__ = [
    "KineticEnergy",
    "TrajectorySummary",
    "kac_identity_residual",
    "light_cone_bound",
    "memorisation_fraction",
    "nearest",
    "rank_correlation",
]
