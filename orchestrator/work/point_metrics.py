"""What is measured of points in the plane, where the data's density is known exactly."""

import torch
from torch import Tensor, nn

from kaccore.data import mixture
from kaccore.diagnostics.likelihood import log_likelihood
from kaccore.diagnostics.trajectories import trajectories
from kaccore.metrics.transport import wasserstein2
from kaccore.tensors import derive_seed
from orchestrator.plan.stage import Stage
from orchestrator.work import building

W2_POINTS = 1000  # a side: the assignment takes a third of a second
HELD_OUT = 500  # fresh points whose likelihood is computed
LIKELIHOOD_STEPS = 50  # of rk4 from data to noise
WAYS, WAY_STEPS = 45, 100  # trajectories drawn, five of each mode, and their steps


def distances(points: Tensor, seed: int) -> dict[str, float]:
    """`w2` of the first W2_POINTS of `points` (N, 2) to as many fresh points of the data, and
    `w2_of_real`: what as many points of the data itself would score."""
    count = min(W2_POINTS, len(points))
    fresh, others = (_fresh(count, seed, which).points for which in ("w2", "w2 of real"))
    return {"w2": wasserstein2(points[:count], fresh), "w2_of_real": wasserstein2(others, fresh)}


def likelihood(stage: Stage, model: nn.Module, path: building.Path) -> dict[str, float]:
    """`log_likelihood`, in nats: the mean of fresh points under the flow of the `model` that
    `stage` samples, each under its own label where the model has labels, and
    `log_likelihood_of_real`: the data's own density of them.

    It is that of the flow in continuous time, whatever the steps that samples take. Points that the
    flow cannot generate (it would have to start outside the Kac prior's light cone) are left out of
    the mean, and `log_likelihood_impossible` is their share. Empty where there is no flow or no
    density of the prior: for students that are no flow, and for a prior that contains data.
    """
    trained = stage.parents[0]
    teacher = trained.teacher_spec
    flows = trained.student is None or trained.student.has_flow
    if not flows or not teacher.path.has_density:
        return {}
    points, labels = _fresh(HELD_OUT, stage.evaluation_spec.seed, "likelihood")
    known = labels if teacher.labelled else None
    device = next(model.parameters()).device
    found = log_likelihood(
        model,
        path,
        points.to(device),
        steps=LIKELIHOOD_STEPS,
        labels=None if known is None else known.to(device),
        guidance=stage.evaluation_spec.sampling.guidance,
    ).log_density.cpu()
    possible = found.isfinite()
    values = {"log_likelihood_impossible": float((~possible).double().mean())}
    if possible.any():
        values["log_likelihood"] = float(found[possible].mean())
    return values | {
        "log_likelihood_of_real": float(mixture.log_density(points.double(), known).mean())
    }


def ways(teacher: Stage, model: nn.Module, path: building.Path) -> Tensor:
    """Where WAYS samples of a teacher are from noise to data, (WAY_STEPS + 1, WAYS, 2): the same
    seed, and so the same draws, for all teachers; their labels, where there are any, are the modes
    in turn."""
    labels = torch.arange(WAYS) % len(mixture.CENTRES) if teacher.teacher_spec.labelled else None
    shape = (WAYS, 2, 1, 1)
    return trajectories(
        model, path, shape, solver="ab2", steps=WAY_STEPS, seed=0, labels=labels
    ).flatten(2)


def _fresh(count: int, seed: int, purpose: str) -> mixture.LabelledPoints:
    return mixture.grid_of_gaussians(count, derive_seed(seed, f"fresh points: {purpose}"))
