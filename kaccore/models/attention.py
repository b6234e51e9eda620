"""Attention, and a plain form of it that can be differentiated forwards."""

import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch.nn.functional as F
from torch import Tensor

_PLAIN = False


def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """softmax(q k^T / sqrt(D)) v for (..., L, D)."""
    if not _PLAIN:
        return F.scaled_dot_product_attention(q, k, v)
    scores = q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])
    weights = (scores - scores.detach().amax(-1, keepdim=True)).exp()
    return weights / weights.sum(-1, keepdim=True) @ v


@contextmanager
def plain_attention() -> Iterator[None]:
    """Attention written out, in this process: neither torch's own nor its softmax has a forward
    derivative that can be differentiated again."""
    global _PLAIN
    before, _PLAIN = _PLAIN, True
    try:
        yield
    finally:
        _PLAIN = before
