"""Networks: `model(x, t, labels=None) -> velocity`."""

from kaccore.models.unet import UNet

__all__ = ["UNet"]
