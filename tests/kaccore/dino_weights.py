"""A weights file for DINOv2 where the official one cannot be had: the format is the same, the
weights are random."""

from pathlib import Path

import torch

from kaccore.metrics.dinov2 import VisionTransformer


def random_state(name: str) -> dict[str, torch.Tensor]:
    """A state dict with the keys and shapes of the official file; no scale and no bias is at its
    default."""
    generator, state = torch.Generator().manual_seed(0), {}
    with torch.device("meta"):
        empty = VisionTransformer(name).state_dict()
    for key, value in empty.items():
        noise = torch.randn(value.shape, generator=generator)
        if value.dim() == 2 and key != "mask_token":
            state[key] = noise / value.shape[1] ** 0.5
        elif value.dim() == 1 and key.endswith("weight"):
            state[key] = 1 + 0.1 * noise
        else:
            state[key] = 0.3 * noise if "gamma" in key else 0.1 * noise
    return state


def write_random_dino(path: Path, name: str) -> None:
    """The state dict in the format of the official file: bare, and pickled."""
    torch.save(random_state(name), path)
