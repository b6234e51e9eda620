"""The training loop, as a generator of (step, metrics): whoever drives it restores, reports and saves.

A run is a function of its seed: the data order, the noise and dropout of step s come from (seed, purpose, s), so a
resumed run draws what the uninterrupted one would have.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor, nn

from kaccore.ema import EMA
from kaccore.tensors import derive_seed, generator_for


@dataclass(frozen=True)
class Settings:
    """How to optimise. `steps` and `warmup` count optimiser steps, `clip` bounds the gradient's norm (None: no bound),
    `schedule` is "constant" or "cosine" (down to 1 % of `lr` at the last step)."""

    steps: int
    lr: float
    ema: float
    schedule: str = "cosine"
    warmup: int = 0
    clip: float | None = 1.0
    seed: int = 0


class NonFiniteLossError(ValueError):
    """The loss became NaN or infinite."""


BatchLoss = Callable[[nn.Module, int], Tensor]  # (model, step) -> mean loss of that step's batch


class Training:
    """A network in training: its weights, averages, optimiser and step, and how to save and restore them all.

    `forward` is what the loss calls, where that is not `model` itself (the same network wrapped for data-parallel
    training).
    """

    def __init__(self, model: nn.Module, settings: Settings, forward: nn.Module | None = None) -> None:
        self.model, self.settings = model, settings
        self.forward = model if forward is None else forward
        self.ema = EMA(model, settings.ema)
        self.optimizer = torch.optim.Adam(model.parameters(), lr=settings.lr, fused=True)
        self.step = 0

    def run(self, batch_loss: BatchLoss, rank: int = 0) -> Iterator[tuple[int, dict[str, float]]]:
        """Train up to `settings.steps`, yielding (steps done, {"loss", "lr"}) after each.

        Raises NonFiniteLossError with the step, the last good loss and the learning rate.
        """
        s, last = self.settings, math.nan
        self.model.train()
        while self.step < s.steps:
            lr = learning_rate(s, self.step)
            for group in self.optimizer.param_groups:
                group["lr"] = lr
            torch.manual_seed(derive_seed(s.seed, "dropout", self.step, rank))
            self.optimizer.zero_grad()
            loss = batch_loss(self.forward, self.step)
            loss.backward()
            value = float(loss.detach())
            if not math.isfinite(value):
                raise NonFiniteLossError(
                    f"loss is {value} at step {self.step + 1} (last good loss {last:.6g}, learning rate {lr:.3g})"
                )
            if s.clip is not None:
                nn.utils.clip_grad_norm_(self.model.parameters(), s.clip)
            self.optimizer.step()
            self.ema.update(self.model, self.step)
            self.step, last = self.step + 1, value
            yield self.step, {"loss": value, "lr": lr}

    def state(self) -> tuple[dict[str, Tensor], dict[str, int]]:
        """Everything that a resumed run needs: named tensors, and plain numbers beside them."""
        tensors = {f"model.{k}": v for k, v in self.model.state_dict().items()}
        tensors |= {f"ema.{k}": v for k, v in self.ema.model.state_dict().items()}
        for index, moments in self.optimizer.state_dict()["state"].items():
            tensors |= {f"adam.{index}.{k}": torch.as_tensor(v) for k, v in moments.items()}
        return tensors, {"step": self.step}

    def restore(self, tensors: dict[str, Tensor], numbers: dict[str, int]) -> None:
        """Continue from what `state` returned."""
        self.model.load_state_dict(_below("model.", tensors))
        self.ema.model.load_state_dict(_below("ema.", tensors))
        moments: dict[int, dict[str, Tensor]] = {}
        parameters = list(self.model.parameters())
        for name, value in _below("adam.", tensors).items():
            index, key = name.split(".", 1)
            if key != "step":  # the fused step needs moments that lie as weights do
                value = torch.empty_like(parameters[int(index)]).copy_(value)
            moments.setdefault(int(index), {})[key] = value
        self.optimizer.load_state_dict({"state": moments, "param_groups": self.optimizer.state_dict()["param_groups"]})
        self.step = numbers["step"]


def learning_rate(settings: Settings, step: int) -> float:
    """The rate at `step` (from 0): a linear warm-up, then constant or half a cosine down to 1 %."""
    warm = min(1.0, (step + 1) / settings.warmup) if settings.warmup else 1.0
    if settings.schedule == "constant":
        return settings.lr * warm
    if settings.schedule != "cosine":
        raise ValueError(f"schedule = {settings.schedule!r}: expected constant or cosine")
    return settings.lr * warm * (0.01 + 0.99 * (1 + math.cos(math.pi * step / settings.steps)) / 2)


def batch_indices(count: int, batch_size: int, step: int, seed: int, rank: int = 0, world: int = 1) -> Tensor:
    """The images of batch `step`: a new permutation of all `count` every epoch, in (seed, "order", epoch).

    With `world` workers each gets every world-th image of the same global batch, so the data order does not depend
    on how many there are. Raises ValueError where the batch does not divide among them.
    """
    if batch_size % world:
        raise ValueError(f"batch_size = {batch_size}: not a multiple of {world} workers")
    position = torch.arange(step * batch_size + rank, (step + 1) * batch_size, world)
    epoch = position // count
    orders = {int(e): _order(count, seed, int(e)) for e in epoch.unique()}
    return torch.stack([orders[int(e)][int(p) % count] for e, p in zip(epoch, position, strict=True)])


@lru_cache(maxsize=4)
def _order(count: int, seed: int, epoch: int) -> Tensor:
    return torch.randperm(count, generator=generator_for(seed, "order", epoch))


def _below(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
