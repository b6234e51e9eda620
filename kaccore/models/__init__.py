"""Networks: `model(x, t, labels=None) -> velocity`, in the dtype of x under autocast too."""

from kaccore.models.discriminator import Discriminator
from kaccore.models.dit import DiT
from kaccore.models.mlp import MLP
from kaccore.models.unet import UNet

__all__ = ["MLP", "DiT", "Discriminator", "UNet"]
