"""Exponential moving averages of weights."""

import copy

import torch
from torch import nn


class EMA:
    """A shadow copy of `model` that follows it with decay min(`decay`, (1 + step) / (10 + step)),
    step = 0, 1, ...

    The warm-up lets a short run forget its random start. `decay` is in [0, 1); 0 copies. Raises
    ValueError outside."""

    def __init__(self, model: nn.Module, decay: float) -> None:
        if not 0 <= decay < 1:
            raise ValueError(f"ema = {decay!r}: expected a decay in [0, 1)")
        self.decay = decay
        self.model = copy.deepcopy(model).eval().requires_grad_(False)

    @torch.no_grad()
    def update(self, model: nn.Module, step: int) -> None:
        """Move towards `model` after its optimiser step number `step` (from 0)."""
        decay = min(self.decay, (1 + step) / (10 + step))
        shadow = [p.detach() for p in self.model.parameters()]
        torch._foreach_lerp_(shadow, [p.detach() for p in model.parameters()], 1 - decay)
        for mine, theirs in zip(self.model.buffers(), model.buffers(), strict=True):
            mine.copy_(theirs)
