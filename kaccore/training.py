"""The training loop, as a generator of (step, metrics): the caller restores, reports and
saves.

A run is a function of its seed: the data order, the noise and dropout of step s come from (seed,
purpose, s), so a resumed run draws what the uninterrupted one would have."""

import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from kaccore.adam import Adam
from kaccore.ema import EMA
from kaccore.tensors import derive_seed, generator_for

PRECISIONS = ("float32", "bfloat16")
AHEAD = 20  # steps that a GPU may be given before the first of their losses is waited for


@dataclass(frozen=True)
class Settings:
    """How to optimise. `steps` and `warmup` count optimiser steps, `clip` bounds the norm of the
    gradient of each network (None: no bound), `schedule` is "constant" or "cosine" (down to 1 % of `lr` at the last
    step), which begins again `restarts` times from the peak, in cycles of equal length (warm
    restarts, arXiv 1608.03983).

    `precision` "bfloat16" multiplies in bfloat16 (torch.autocast) what is stored and averaged in
    float32. Each step's gradient is the mean over `accumulate` parts of its batch, in
    sequence: memory for one part only. `averages`: decays of further averages of the weights, next to
    that of decay `ema`. Raises ValueError for another precision or accumulate < 1."""

    steps: int
    lr: float
    ema: float
    schedule: str = "cosine"
    warmup: int = 0
    clip: float | None = 1.0
    seed: int = 0
    precision: str = "float32"
    accumulate: int = 1
    restarts: int = 0
    averages: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if self.precision not in PRECISIONS:
            raise ValueError(
                f"precision = {self.precision!r}: expected one of {', '.join(PRECISIONS)}"
            )
        if self.accumulate < 1:
            raise ValueError(f"accumulate = {self.accumulate}: expected at least 1")


class NonFiniteLossError(ValueError):
    """The loss became NaN or infinite."""


# (model, part) -> mean loss of that part of the data: part k of step s is number s * accumulate +
# k, so without accumulation a part is a step's whole batch
BatchLoss = Callable[[nn.Module, int], Tensor]


class Training:
    """A network in training: its weights, averages, optimiser and step, and how to save and restore
    them all.

    `forward` is what the loss calls, where that is not `model` itself (the same network wrapped for
    data-parallel training). A `model` of several networks may have `parameter_groups()`: the weights
    of each, in the order of `parameters()`, with "lr", a factor on the learning rate, and Adam's
    "betas". If its `rests` is true, a network whose gradient is zero throughout is left as it is, and
    Adam's averages of it too."""

    def __init__(
        self, model: nn.Module, settings: Settings, forward: nn.Module | None = None
    ) -> None:
        self.model, self.settings = model, settings
        self.forward = model if forward is None else forward
        self.ema = EMA(model, settings.ema)
        self.averages = {decay: EMA(model, decay) for decay in settings.averages}
        groups: list[dict[str, Any]] = [{"params": list(model.parameters())}]
        own_groups: Any = getattr(model, "parameter_groups", None)
        if own_groups is not None:
            groups = own_groups()
        self.factors: list[float] = [group.pop("lr", 1.0) for group in groups]
        self.optimizer = Adam(groups, lr=settings.lr, fused=True)
        self.rests = bool(getattr(model, "rests", False))
        self.step = 0
        self.ahead = 1 if next(model.parameters()).device.type == "cpu" else AHEAD
        self._unseen: list[tuple[int, Tensor]] = []
        self._last = math.nan

    def run(self, batch_loss: BatchLoss, rank: int = 0) -> Iterator[tuple[int, dict[str, Any]]]:
        """Train up to `settings.steps`, yielding (steps done, {"loss", "lr"}) after each. On a GPU
        the loss is a tensor that is not waited for.

        Raises NonFiniteLossError with the step, the last good loss and the learning rate; on a GPU
        within AHEAD steps, and before anything is saved."""
        s = self.settings
        self.model.train()
        while self.step < s.steps:
            lr = learning_rate(s, self.step)
            for group, factor in zip(self.optimizer.param_groups, self.factors, strict=True):
                group["lr"] = lr * factor
            self.optimizer.zero_grad()
            loss = self._backward(batch_loss, rank)
            self._unseen.append((self.step, loss))
            if len(self._unseen) >= self.ahead or self.step + 1 == s.steps:
                self._look()
            if self.rests:
                self._let_rest()
            if s.clip is not None:
                for group in self.optimizer.param_groups:  # of each network by itself
                    nn.utils.clip_grad_norm_(group["params"], s.clip)
            self.optimizer.step()
            for ema in (self.ema, *self.averages.values()):
                ema.update(self.model, self.step)
            self.step += 1
            yield self.step, {"loss": float(loss) if self.ahead == 1 else loss, "lr": lr}

    def _let_rest(self) -> None:
        """Take the gradient from each network in which it is zero."""
        for group in self.optimizer.param_groups:
            gradients = [p.grad for p in group["params"] if p.grad is not None]
            if not any(bool(gradient.any()) for gradient in gradients):
                for parameter in group["params"]:
                    parameter.grad = None

    def _look(self) -> None:
        """Wait for the losses since the last look; raises NonFiniteLossError."""
        unseen, self._unseen = self._unseen, []
        values = torch.stack([loss for _, loss in unseen]).tolist() if unseen else []
        for (step, _), value in zip(unseen, values, strict=True):
            if not math.isfinite(value):
                last, lr = self._last, learning_rate(self.settings, step)
                raise NonFiniteLossError(
                    f"loss is {value} at step {step + 1} (last good loss {last:.6g}, learning rate {lr:.3g})"
                )
            self._last = value

    def _backward(self, batch_loss: BatchLoss, rank: int) -> Tensor:
        """Leave the gradient of the mean loss over the step's parts in the weights; returns that
        mean."""
        s, losses = self.settings, []
        device = next(self.model.parameters()).device.type
        for part in range(self.step * s.accumulate, (self.step + 1) * s.accumulate):
            _seed_dropout(device, derive_seed(s.seed, "dropout", part, rank))
            more = (part + 1) % s.accumulate > 0
            with (
                _unsynchronised(self.forward) if more else nullcontext()
            ):  # gradients travel with the last part only
                with torch.autocast(device, torch.bfloat16, enabled=s.precision == "bfloat16"):
                    loss = batch_loss(self.forward, part)
                (loss / s.accumulate).backward()
            losses.append(loss.detach())
        return _over_workers(self.forward, torch.stack(losses).mean())

    def state(self) -> tuple[dict[str, Tensor], dict[str, int]]:
        """Everything that a resumed run needs: named tensors, and plain numbers with them. Raises
        NonFiniteLossError rather than give what is spoiled."""
        self._look()
        tensors = {f"model.{k}": v for k, v in self.model.state_dict().items()}
        tensors |= {f"ema.{k}": v for k, v in self.ema.model.state_dict().items()}
        for decay, ema in self.averages.items():
            tensors |= {f"{_average(decay)}{k}": v for k, v in ema.model.state_dict().items()}
        for index, moments in self.optimizer.state_dict()["state"].items():
            tensors |= {f"adam.{index}.{k}": torch.as_tensor(v) for k, v in moments.items()}
        return tensors, {"step": self.step}

    def restore(self, tensors: dict[str, Tensor], numbers: dict[str, int]) -> None:
        """Continue from what `state` returned."""
        self.model.load_state_dict(_below("model.", tensors))
        self.ema.model.load_state_dict(_below("ema.", tensors))
        for decay, ema in self.averages.items():
            ema.model.load_state_dict(_below(_average(decay), tensors))
        moments: dict[int, dict[str, Tensor]] = {}
        parameters = list(self.model.parameters())
        for name, value in _below("adam.", tensors).items():
            index, key = name.split(".", 1)
            if key != "step":  # the fused step needs moments that lie as weights do
                value = torch.empty_like(parameters[int(index)]).copy_(value)
            moments.setdefault(int(index), {})[key] = value
        self.optimizer.load_state_dict(
            {"state": moments, "param_groups": self.optimizer.state_dict()["param_groups"]}
        )
        self.step = numbers["step"]


def learning_rate(settings: Settings, step: int) -> float:
    """The rate at `step` (from 0): a linear warm-up, then constant or half cosines down to 1 %."""
    warm = min(1.0, (step + 1) / settings.warmup) if settings.warmup else 1.0
    if settings.schedule == "constant":
        return settings.lr * warm
    if settings.schedule != "cosine":
        raise ValueError(f"schedule = {settings.schedule!r}: expected constant or cosine")
    cycle = settings.steps / (settings.restarts + 1)
    return settings.lr * warm * (0.01 + 0.99 * (1 + math.cos(math.pi * (step % cycle) / cycle)) / 2)


def _seed_dropout(device: str, seed: int) -> None:
    """Seed the generator that dropout on a `device` draws from. torch.manual_seed also notes for each
    kind of device that is not in use from where it was called, which costs time in every step."""
    if device == "cpu":
        torch.default_generator.manual_seed(seed)
    else:
        torch.manual_seed(seed)


def batch_indices(count: int, batch_size: int, part: int, seed: int, accumulate: int = 1) -> Tensor:
    """The images of part `part` of the batches, each batch in `accumulate` parts: with one, of
    batch `part`.

    Every epoch is a new permutation of all `count`, in (seed, "order", epoch), whatever the number
    of parts. Raises ValueError where the batch does not divide into them."""
    if batch_size % accumulate:
        raise ValueError(f"batch_size = {batch_size}: not a multiple of {accumulate} parts")
    size = batch_size // accumulate
    position, end = part * size, (part + 1) * size
    indices = []
    while position < end:  # a batch may begin in one epoch and end in another
        epoch, first = divmod(position, count)
        last = min(count, first + end - position)
        indices.append(_order(count, seed, epoch)[first:last])
        position += last - first
    return torch.cat(indices)


def shard_of(count: int, rank: int, world: int) -> slice:
    """Which of `count` images that `world` workers share are those of worker `rank`. Raises
    ValueError where they do not divide: the mean of the workers' gradients would not be that of the
    images."""
    if count % world:
        raise ValueError(f"{count} images at a time: not a multiple of {world} workers")
    return slice(rank, None, world)


@lru_cache(maxsize=4)
def _order(count: int, seed: int, epoch: int) -> Tensor:
    return torch.randperm(count, generator=generator_for(seed, "order", epoch))


def _unsynchronised(forward: nn.Module) -> AbstractContextManager[None]:
    """Where the gradients of a data-parallel network stay on their worker."""
    return forward.no_sync() if isinstance(forward, DistributedDataParallel) else nullcontext()


def _over_workers(forward: nn.Module, value: Tensor) -> Tensor:
    """The mean of `value` over the workers of a data-parallel network, which divide the batch
    equally."""
    if isinstance(forward, DistributedDataParallel):
        dist.all_reduce(value)
        value = value / dist.get_world_size()
    return value


def _average(decay: float) -> str:
    """The prefix of the weights of a further average."""
    return f"average {decay!r}."


def _below(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
