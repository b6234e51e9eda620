"""What the tests of the Kac process share: settings, and short ways to write numbers and
generators."""

import torch

CASES = [
    (0.5, 1.0, 0.8),
    (3.0, 2.0, 1.0),
    (25.0, 2.0, 1.0),
    (25.0, 2.0, 0.04),
    (400.0, 20.0, 0.5),
]  # a, c, t


def numbers(value, dtype=torch.float64) -> torch.Tensor:
    return torch.tensor(value, dtype=dtype)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)
