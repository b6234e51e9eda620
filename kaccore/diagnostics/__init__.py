"""Diagnostics of a model beyond its final images: its trajectories, the similarity of its images to
training images, the accuracy of its field.

    energy         kinetic path energy, largest speed, light-cone violations of the trajectories being sampled
    gap            student against teacher along the path, with the bound that follows from their endpoints
    memorisation   nearest training images, the share of copies, and their rank correlation with the energy
    kac_identity   the residual of the Kac equations for a field on a grid in one dimension
    trajectories   the positions themselves, for figures

`gap` and `trajectories` import the sampler, which itself imports the energy: import these two
modules directly."""

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
