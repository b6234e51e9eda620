"""What is looked at beside the metrics: how trajectories move, what is near the training images,
how far a student strays from its teacher."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from kaccore.data import ImageData
from kaccore.diagnostics import memorisation_fraction, rank_correlation
from kaccore.diagnostics import nearest as nearest_images
from kaccore.diagnostics.gap import Gap, endpoint_to_path_gap
from kaccore.diagnostics.memorisation import Nearest
from kaccore.energy import TrajectorySummary
from kaccore.files import write_json
from orchestrator.plan.stage import Stage
from orchestrator.work import building, pictures

GAP_SAMPLES = 256
GAP_SUBSTEPS = (
    32  # of the teacher on the whole way at least, for the curve between the student's times
)
TRAINING_IMAGES = 50_000  # the first so many are compared with
NEAREST_SHOWN = 16


def of_trajectories(energy: Tensor, summary: TrajectorySummary) -> dict[str, float]:
    """Kinetic path energy in all, early and late, the largest velocity of a coordinate, and how
    many were faster than light: of a path without a bound none can be, and the number is left
    out."""
    values = {
        "kinetic_path_energy": float(energy.mean()),
        "kinetic_path_energy_early": float(summary.early_energy.mean()),
        "kinetic_path_energy_late": float(summary.late_energy.mean()),
        "largest_velocity": float(summary.max_speed.max()),
    }
    if summary.light_cone_violations is not None:
        values["light_cone_violations"] = float(summary.light_cone_violations.mean())
    return values


def nearest(images: Tensor, data: ImageData) -> Nearest:
    """The two nearest training images of each generated one."""
    compared = torch.arange(min(len(data), TRAINING_IMAGES))  # as floats all may not fit
    return nearest_images(images.float(), data.batch(compared))


def of_memorisation(found: Nearest, energy: Tensor) -> dict[str, float]:
    """The share of copies, the mean distance to the nearest training image, and its rank
    correlation with energy."""
    values = {
        "memorisation_fraction": memorisation_fraction(found.distances),
        "nearest_distance": float(found.distances[:, 0].mean()),
    }
    correlation = rank_correlation(energy, found.distances[:, 0])
    return (
        values
        if correlation.rho != correlation.rho
        else values | {"energy_distance_rank": correlation.rho}
    )


def save_nearest(folder: Path, images: Tensor, found: Tensor, data: ImageData) -> None:
    """nearest.png: generated images, and below each the training image nearest to it."""
    rows = []
    for start in range(0, min(NEAREST_SHOWN, len(images)), 8):
        rows += [images[start : start + 8], data.images[found[start : start + 8]]]
    pictures.save_grid(folder / "nearest.png", torch.cat(rows))


def of_gap(
    teacher: nn.Module,
    student: Any,
    stage: Stage,
    path: building.Path,
    shape: tuple[int, ...],
    labels: Any,
    folder: Path,
) -> dict[str, float]:
    """How far the student is from its first teacher at the ends of its steps and on the way, with
    the bound on the latter; the curves are gap.json and gap.png in `folder`."""
    spec = stage.evaluation_spec
    steps = spec.sampling.steps
    first = stage.parents[0].lineage()[1].student
    assert first is not None, "the second of a lineage is a student"
    gap = endpoint_to_path_gap(
        teacher,
        student,
        path,
        shape,
        intervals=steps,
        substeps=max(2, -(-GAP_SUBSTEPS // steps)),
        seed=spec.seed,
        guidance=first.guidance,
        labels=labels,
    )
    curves: dict[str, Any] = {
        "times": gap.times,
        "ends": gap.ends,
        "rms": gap.rms.distance,
        "bound": gap.rms.bound,
    }
    curves |= {"w2": gap.w2.distance, "w2_bound": gap.w2.bound} if gap.w2 else {}
    write_json(folder / "gap.json", {k: v.tolist() for k, v in curves.items()})
    pictures.save_gap(folder / "gap.png", gap)
    return _gap_values(gap)


def _gap_values(gap: Gap) -> dict[str, float]:
    return {
        "gap_at_ends": float(gap.rms.distance[gap.ends].max()),
        "gap_on_the_way": float(gap.rms.distance.max()),
        "gap_bound": float(gap.rms.bound.max()),
    }
