"""The metrics of points in the plane, where the density of the data is known exactly."""

import torch
from torch import Tensor, nn

from kaccore.data import mixture
from kaccore.diagnostics.likelihood import log_likelihood
from kaccore.diagnostics.trajectories import trajectories
from kaccore.metrics.transport import wasserstein2
from kaccore.tensors import derive_seed
from orchestrator.plan.stage import Stage
from orchestrator.work import building

W2_POINTS = 1000  # of each sample: the assignment takes a third of a second
HELD_OUT = 500  # new points whose likelihood is computed
LIKELIHOOD_STEPS = 50  # of rk4 from data to noise
WAYS, WAY_STEPS = 45, 100  # number of plotted trajectories, five of each mode, and their steps


def distances(points: Tensor, seed: int) -> dict[str, float]:
    """`w2` between the first W2_POINTS of `points` (N, 2) and as many new points of the data, and
    `w2_of_real`: the same for as many points of the data itself."""
    count = min(W2_POINTS, len(points))
    new = _fresh(count, seed, "w2").points
    real = _fresh(count, seed, "w2 of real").points
    return {"w2": wasserstein2(points[:count], new), "w2_of_real": wasserstein2(real, new)}


def likelihood(stage: Stage, model: nn.Module, path: building.Path) -> dict[str, float]:
    """`log_likelihood`, in nats: the mean over new points under the flow of the `model` that `stage`
    samples, conditioned on their labels if the model has labels, and `log_likelihood_of_real`: the
    mean under the exact density of the data.

    It is that of the flow in continuous time, independent of the sampling steps. Points that the
    flow cannot generate (it would have to start outside the light cone of the Kac prior) are left
    out of the mean; `log_likelihood_impossible` is their fraction. Empty for students that define no
    flow, and for a prior without a known density.
    """
    trained = stage.parents[0]
    teacher = trained.teacher_spec
    flows = trained.student is None or trained.student.has_flow
    if not flows or not teacher.path.has_density:
        return {}
    points, labels = _fresh(HELD_OUT, stage.evaluation_spec.seed, "likelihood")
    known = labels if teacher.labelled else None
    device = next(model.parameters()).device
    log_densities = log_likelihood(
        model,
        path,
        points.to(device),
        steps=LIKELIHOOD_STEPS,
        labels=None if known is None else known.to(device),
        guidance=stage.evaluation_spec.sampling.guidance,
    ).log_density.cpu()
    possible = log_densities.isfinite()
    values = {"log_likelihood_impossible": float((~possible).double().mean())}
    if possible.any():
        values["log_likelihood"] = float(log_densities[possible].mean())
    exact = mixture.log_density(points.double(), known)
    values["log_likelihood_of_real"] = float(exact.mean())
    return values


def ways(teacher: Stage, model: nn.Module, path: building.Path) -> Tensor:
    """The trajectories of WAYS samples of a teacher from noise to data, (WAY_STEPS + 1, WAYS, 2),
    with the same seed, and so the same noise, for all teachers. If the teacher has labels, those of
    the modes are used in turn."""
    labels = torch.arange(WAYS) % len(mixture.CENTRES) if teacher.teacher_spec.labelled else None
    shape = (WAYS, 2, 1, 1)
    return trajectories(
        model, path, shape, solver="ab2", steps=WAY_STEPS, seed=0, labels=labels
    ).flatten(2)


def _fresh(count: int, seed: int, purpose: str) -> mixture.LabelledPoints:
    return mixture.grid_of_gaussians(count, derive_seed(seed, f"fresh points: {purpose}"))
