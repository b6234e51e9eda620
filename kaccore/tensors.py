"""Small helpers that every module shares: aligning times with images, seeding by purpose, sharing a
batch."""

import hashlib
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor


def left_broadcast(t: Tensor | float, like: Tensor) -> Tensor:
    """View `t` (a scalar, or shaped as the first axes of `like`) so that it broadcasts against
    `like` from the left.

    Returns a tensor of `like`'s dtype and device with `like.ndim` axes. Raises ValueError where `t`
    does not fit."""
    t = torch.as_tensor(t, dtype=like.dtype, device=like.device)
    if t.ndim == 0:
        return t
    if t.ndim > like.ndim or any(
        a not in (1, b) for a, b in zip(t.shape, like.shape, strict=False)
    ):
        raise ValueError(
            f"time of shape {tuple(t.shape)} does not align from the left with shape {tuple(like.shape)}"
        )
    return t.reshape(t.shape + (1,) * (like.ndim - t.ndim))


def sent(tensor: Tensor, device: str | torch.device) -> Tensor:
    """`tensor`, of the CPU, on `device`; without waiting for a GPU to have it."""
    if torch.device(device).type != "cuda":
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)


def derive_seed(seed: int, purpose: str, *index: int) -> int:
    """A 63-bit seed for (seed, purpose, index...): independent streams that no order of execution
    can disturb."""
    text = ":".join([str(int(seed)), purpose, *(str(int(i)) for i in index)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def generator_for(
    seed: int, purpose: str, *index: int, device: str | torch.device = "cpu"
) -> torch.Generator:
    """A `torch.Generator` on `device` seeded by (seed, purpose, index...)."""
    return torch.Generator(device).manual_seed(derive_seed(seed, purpose, *index))


ALL = slice(None)


def of_shard(shard: slice, *tensors: Tensor | None) -> list[Any]:
    """The rows of each of `tensors` that are `shard`'s: what one of several workers computes of a
    batch for which all of them draw the same random numbers. None stays None."""
    return [None if each is None else each[shard] for each in tensors]


def default_device(shape: Sequence[int], generator: torch.Generator | None) -> torch.device:
    """Where draws of `shape` are made: the generator's device, else the CPU. Checks the shape."""
    if any(int(n) < 0 for n in shape):
        raise ValueError(f"shape {tuple(shape)} has a negative size")
    return generator.device if generator is not None else torch.device("cpu")
