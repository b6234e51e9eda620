"""Guidance in velocity space, and the honest count of network evaluations (NFE).

    u = u_null + s (u_cond - u_null);   s = 1: no guidance, one evaluation;  otherwise two, in one batched call.

Source: arXiv 2509.21513, section 3.3; classifier-free guidance is arXiv 2207.12598, whose w is s =
1 + w."""

from collections.abc import Callable

import torch
from torch import Tensor

Model = Callable[..., Tensor]  # model(x, t, labels=None) -> velocity shaped as x


class GuidedVelocity:
    """`velocity(x, t)` of a model with fixed `labels` and guidance scale; `nfe` counts evaluations
    per image.

    `labels` is (B,) int64 or None. Guidance other than 1 needs labels (ValueError): the
    unconditional field is the model called without labels."""

    def __init__(self, model: Model, labels: Tensor | None = None, guidance: float = 1.0) -> None:
        if guidance != 1.0 and labels is None:
            raise ValueError(
                f"guidance = {guidance}: needs labels; without them only guidance = 1 makes sense"
            )
        self.model = model
        self.labels = labels
        self.guidance = guidance
        self.nfe = 0

    def __call__(self, x: Tensor, t: Tensor) -> Tensor:
        t = (
            t.expand(x.shape[0]) if t.ndim == 0 else t
        )  # len(x) would fix the batch size of an exported model
        if self.guidance == 1.0 or self.labels is None:
            self.nfe += 1
            return self.model(x, t, self.labels)
        self.nfe += 2
        null = torch.full_like(self.labels, NULL_LABEL)
        both = self.model(torch.cat([x, x]), torch.cat([t, t]), torch.cat([self.labels, null]))
        conditional, unconditional = both.reshape(2, *x.shape)
        return unconditional + self.guidance * (conditional - unconditional)


NULL_LABEL = -1  # "no label" in a batch where other images have one
