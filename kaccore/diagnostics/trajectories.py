"""The positions of samples at every step from noise to data, as arrays."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from kaccore.guidance import GuidedVelocity, Model
from kaccore.paths import Path
from kaccore.sampling import evaluating, prior_images
from kaccore.solvers import EVALUATIONS, SOLVERS, Velocity, uniform_times


def trajectory(velocity: Velocity, x: Tensor, times: Tensor, solver: str = "euler") -> Tensor:
    """The positions of `x` (B, ...) at every point of the grid `times` (n+1,): (n+1, B, ...), on
    x's device.

    Raises ValueError for an unknown solver.
    """
    if solver not in SOLVERS:
        raise ValueError(f"solver = {solver!r}: expected one of {', '.join(SOLVERS)}")
    inputs: list[Tensor] = []

    def recorded(x: Tensor, t: Tensor) -> Tensor:
        inputs.append(x)
        return velocity(x, t)

    end = SOLVERS[solver](recorded, x, times)
    starts = inputs[:: EVALUATIONS[solver]]  # the first evaluation of a step is at its start
    return torch.stack([*starts, end])


@torch.no_grad()
def trajectories(
    model: Model,
    path: Path,
    shape: Sequence[int],
    *,
    solver: str = "euler",
    steps: int,
    seed: int,
    labels: Tensor | None = None,
    guidance: float = 1.0,
    end: float = 0.0,
) -> Tensor:
    """The trajectories of samples 0 ... N-1 of `seed` from t = 1 to t = `end`: (steps + 1, N, ...)
    on the CPU.

    Arguments as for `kaccore.sampling.sample`; the last positions are its images up to rounding. All
    samples are in one batch, as figures need few. Raises ValueError for an unknown solver, steps < 1 or
    guidance without labels."""
    weights = model.parameters() if isinstance(model, nn.Module) else iter(())
    device = next((w.device for w in weights), torch.device("cpu"))
    x = prior_images(path, seed, range(shape[0]), shape[1:]).to(device)
    velocity = GuidedVelocity(model, None if labels is None else labels.to(device), guidance)
    with evaluating(model):
        return trajectory(velocity, x, uniform_times(steps, 1.0, end, device), solver).float().cpu()
