"""Flow matching: regress the path's conditional velocity (arXiv 2210.02747, eq. 9; arXiv
2506.20641, eq. 21); and the distances by which distillers compare a student with what it is
taught."""

import torch
from torch import Generator, Tensor

from kaccore.guidance import NULL_LABEL, Model
from kaccore.paths import Path
from kaccore.tensors import ALL, of_shard


def flow_matching_loss(
    model: Model,
    path: Path,
    x0: Tensor,
    labels: Tensor | None = None,
    generator: Generator | None = None,
    shard: slice = ALL,
    logit_normal: tuple[float, float] | None = None,
) -> Tensor:
    """Mean of (model(x_t, t, labels) - u_t)^2 over a batch `x0` (B, ...) in [-1, 1], with t uniform
    on (0, 1]; with `logit_normal` (mean, std), log(t / (1 - t)) is normal (arXiv 2403.03206, eq. 19,
    where t is 1 for noise as here).

    Of several workers that share the batch each gives its `shard`, equally large: all draw the same
    times and noise, and the mean of their losses is the loss of one that had no help."""
    if logit_normal is None:
        t = 1 - torch.rand(len(x0), generator=generator, device=x0.device)
    else:
        mean, std = logit_normal
        normal = torch.randn(len(x0), generator=generator, device=x0.device)
        t = torch.sigmoid(mean + std * normal)
    sample = path.sample(x0, t, generator)
    x, velocity, t, labels = of_shard(shard, sample.x, sample.velocity, t, labels)
    error = model(x, t, labels) - velocity
    return error.square().mean()


def distance(error: Tensor, huber: float | None = None) -> Tensor:
    """Mean over all coordinates of error^2; or, with `huber` = c, of the pseudo-Huber sqrt(error^2
    + c^2) - c.

    For what a teacher makes of a point, which is one value and not a random one, both have their
    minimum at the same student. They differ in what is left of its error on the way there: the
    second, the square below c and the absolute value above, leaves most coordinates right and few
    wrong, where the square spreads the error. (In arXiv 2310.14189, section 3.4, it is of a whole
    image's norm, which does the same for images instead of pixels.)"""
    squares = error.square()
    return (
        squares.mean()
        if huber is None
        else (squares / ((squares + huber**2).sqrt() + huber)).mean()
    )


def drop_labels(labels: Tensor, probability: float, generator: Generator | None = None) -> Tensor:
    """`labels` (B,) with each replaced by the null label with `probability` in [0, 1], for guidance
    later."""
    dropped = torch.rand(labels.shape, generator=generator, device=labels.device) < probability
    return torch.where(dropped, NULL_LABEL, labels)
