"""Draws images from a trained network, as an evaluation and all commands do."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from kaccore.data import ImageData
from kaccore.distill import sample_consistency
from kaccore.sampling import Samples, sample
from kaccore.tensors import generator_for
from kaccore.tone import without_tone
from orchestrator.plan.stage import Stage
from orchestrator.settings.blocks import Sampling
from orchestrator.work import building


def draw(
    stage: Stage,
    setting: Sampling,
    model: nn.Module,
    data: ImageData,
    indices: range,
    seed: int,
    labels: Tensor | None,
) -> Samples:
    """Images number `indices` of `seed` from the trained `stage`, whose network is `model`, with the
    sampling settings `setting`."""
    if not setting.calibrated:
        model = without_tone(model)
    path = building.path(stage, data)
    shape = (len(indices), data.channels, data.size, data.size)
    common: dict[str, Any] = {
        "steps": setting.steps,
        "seed": seed,
        "labels": labels,
        "first": indices.start,
    }
    if stage.jumps:
        return sample_consistency(model, path, shape, gamma=setting.gamma, **common)
    times = grid_of(stage, setting)
    return sample(
        model,
        path,
        shape,
        solver=setting.solver,
        guidance=setting.guidance,
        shaping=setting.shaping,
        times=None if times is None else torch.tensor(times),
        **common,
    )


def grid_of(stage: Stage, setting: Sampling) -> tuple[float, ...] | None:
    """The time grid with which the trained `stage` is sampled, from 1 to 0; None: uniform."""
    own = None if stage.student is None else stage.student.grid
    return own or setting.times


def choose_labels(
    wanted: int | Sequence[int] | None, data: ImageData, seed: int, indices: range
) -> Tensor | None:
    """The labels of images number `indices`: `wanted` in turn, or, for None, the labels of the data
    in random order, so that as many images as the data has have each label equally often as the
    data. None for data without labels."""
    if data.labels is None:
        return None
    at = torch.tensor(indices)
    if wanted is None:
        order = torch.randperm(len(data), generator=generator_for(seed, "labels"))
        return data.labels[order[at % len(data)]]
    choices = torch.tensor([wanted] if isinstance(wanted, int) else wanted)
    return choices[at % len(choices)]


def labels_for(
    trained: Stage, wanted: int | Sequence[int] | None, data: ImageData, seed: int, indices: range
) -> Tensor | None:
    """The labels with which a `trained` teacher or student is sampled, see `choose_labels`; None if
    it was trained without labels."""
    labelled = trained.teacher_spec.labelled
    return choose_labels(wanted, data, seed, indices) if labelled else None


def device() -> str:
    """The device on which this machine evaluates networks."""
    return "cuda" if torch.cuda.is_available() else "cpu"
