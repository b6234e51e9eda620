"""The loss of a training stage on a batch, or on this worker's shard of it."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import nn

from kaccore import flow_matching_loss
from kaccore.augment import augment, flip
from kaccore.data import ImageData
from kaccore.distill import Pairs
from kaccore.losses import drop_labels
from kaccore.tensors import generator_for, sent
from kaccore.training import BatchLoss, batch_indices, shard_of
from orchestrator.plan.specs import TeacherSpec
from orchestrator.plan.stage import Stage
from orchestrator.work import building

Loss = Callable[
    [nn.Module, torch.Tensor, torch.Tensor | None, torch.Generator, slice], torch.Tensor
]


@dataclass(frozen=True)
class Group:
    """The position of this process in the worker group."""

    rank: int
    world: int
    device: torch.device


def batch_loss(
    stage: Stage,
    frozen: nn.Module | None,
    data: ImageData,
    averaged: nn.Module,
    group: Group,
    pairs: Pairs | None = None,
) -> BatchLoss:
    """The loss of part number k of a stage's batches. `frozen`: the network that teaches a student.
    `averaged`: the network with the exponential moving average of the weights in training. `pairs`:
    those on which a student learns."""
    spec = stage.training_spec
    seed = spec.seed
    batch_size = spec.optimise.batch_size
    accumulate = spec.optimise.accumulate
    labelled = stage.teacher_spec.labelled and data.classes > 0
    path = building.path(stage, data)
    if frozen is None:
        loss = _teacher_loss(stage.teacher_spec, path)
    else:
        loss = building.distiller(stage, frozen, path, target=averaged, pairs=pairs).loss

    def of_part(model: nn.Module, part: int) -> torch.Tensor:
        index = batch_indices(len(data), batch_size, part, seed, accumulate)
        # all workers draw the same numbers
        generator = generator_for(seed, stage.stream, part, 0, device=group.device)
        labels = None
        if labelled and data.labels is not None:
            labels = sent(data.labels[index], group.device)
        x0 = data.batch(index, group.device)
        if spec.flip:
            x0 = flip(x0, generator)
        shard = shard_of(len(x0), group.rank, group.world)
        return loss(model, x0, labels, generator, shard)

    return of_part


def _teacher_loss(spec: TeacherSpec, path: building.Path) -> Loss:
    measured = partial(flow_matching_loss, logit_normal=spec.logit_normal)

    def loss(
        model: nn.Module,
        x0: torch.Tensor,
        labels: torch.Tensor | None,
        generator: torch.Generator,
        shard: slice,
    ) -> torch.Tensor:
        if labels is not None and spec.label_dropout is not None:
            labels = drop_labels(labels, spec.label_dropout, generator)
        if not spec.augment:
            return measured(model, path, x0, labels, generator, shard)
        x0, augmentation = augment(x0, generator, spec.augment)
        conditioned = partial(model, augment=augmentation[shard])
        return measured(conditioned, path, x0, labels, generator, shard)

    return loss
