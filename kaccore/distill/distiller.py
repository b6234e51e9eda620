"""What every distiller is to the training loop."""

from typing import Protocol

from torch import Generator, Tensor, nn


class Distiller(Protocol):
    """A loss over a frozen teacher, which it holds."""

    def loss(
        self,
        student: nn.Module,
        x0: Tensor,
        labels: Tensor | None,
        generator: Generator | None,
        shard: slice,
    ) -> Tensor:
        """The scalar loss of `student` on a batch of data `x0` (B, ...) with their `labels` (B,),
        or None.

        Random numbers are drawn by `generator` for the whole batch; `shard` are the rows of it that
        this process computes, so that several processes together draw what one would."""
        ...
