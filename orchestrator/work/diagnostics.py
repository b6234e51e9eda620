"""Diagnostics in addition to the metrics: the energy of trajectories, the distance to the nearest training
images, and the gap between a student and its teacher."""

import math
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
# minimum steps of the teacher from noise to data, for the curve between the student's times
GAP_SUBSTEPS = 32
TRAINING_IMAGES = 50_000  # samples are compared with at most this many, the first ones
NEAREST_SHOWN = 16
FAR = (
    1.5  # pixels of data lie in [-1, 1], and a sound network's images end within a few tenths of it
)


def of_trajectories(energy: Tensor, summary: TrajectorySummary, bounded: bool) -> dict[str, float]:
    """The kinetic path energy in total, early and late; the largest velocity of a coordinate; the
    share of light cone violations, which is left out for a path without a speed limit; and, if
    images are `bounded`, the share of those with a pixel beyond FAR before they are clamped."""
    values = {
        "kinetic_path_energy": float(energy.mean()),
        "kinetic_path_energy_early": float(summary.early_energy.mean()),
        "kinetic_path_energy_late": float(summary.late_energy.mean()),
        "largest_velocity": float(summary.max_speed.max()),
    }
    if summary.light_cone_violations is not None:
        values["light_cone_violations"] = float(summary.light_cone_violations.mean())
    if bounded and summary.reach is not None:
        values["out_of_range_fraction"] = float((summary.reach > FAR).float().mean())
    return values


def nearest(images: Tensor, data: ImageData) -> Nearest:
    """The two nearest training images of each generated one."""
    compared = torch.arange(
        min(len(data), TRAINING_IMAGES)
    )  # all images as floats may not fit in memory
    return nearest_images(images.float(), data.batch(compared))


def of_memorisation(found: Nearest, energy: Tensor) -> dict[str, float]:
    """The fraction of copies, the mean distance to the nearest training image, and its rank
    correlation with energy, which is left out if it is not defined."""
    values = {
        "memorisation_fraction": memorisation_fraction(found.distances),
        "nearest_distance": float(found.distances[:, 0].mean()),
    }
    rho = rank_correlation(energy, found.distances[:, 0]).rho
    if not math.isnan(rho):
        values["energy_distance_rank"] = rho
    return values


def save_nearest(folder: Path, images: Tensor, found: Tensor, data: ImageData) -> None:
    """nearest.png: generated images, and below each its nearest training image, number
    `found` (N,)."""
    rows = []
    for start in range(0, min(NEAREST_SHOWN, len(images)), 8):
        rows.append(images[start : start + 8])
        rows.append(data.images[found[start : start + 8]])
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
    """The distance of the student from its first teacher, at the ends of its steps and along the
    trajectory, with an upper bound of the latter. Writes the curves to gap.json and gap.png in
    `folder`."""
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
