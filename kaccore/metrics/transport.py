"""Exact optimal transport between small samples."""

import torch
from torch import Tensor

# points on each side; the assignment takes a second then, and its time grows with their cube
ASSIGNMENT_LIMIT = 2000


def wasserstein2(x: Tensor, y: Tensor) -> float:
    """W2 of two samples of equal size (N, ...): the root mean squared distance under the best
    one-to-one assignment.

    Exact, by scipy's linear assignment. Raises ValueError for other shapes or more than
    ASSIGNMENT_LIMIT points."""
    from scipy.optimize import linear_sum_assignment

    if x.shape != y.shape or not 0 < len(x) <= ASSIGNMENT_LIMIT:
        raise ValueError(
            f"samples of shape {tuple(x.shape)} and {tuple(y.shape)}; expected the same, 1 to {ASSIGNMENT_LIMIT} points"
        )
    a, b = x.detach().flatten(1).double().cpu(), y.detach().flatten(1).double().cpu()
    cost = torch.cdist(a, b, compute_mode="donot_use_mm_for_euclid_dist").square().numpy()
    rows, columns = linear_sum_assignment(cost)
    return float(cost[rows, columns].mean() ** 0.5)
