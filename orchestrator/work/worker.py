"""What runs on each Ray Train worker: the missing stages of a chain, one after the other, each saved as it ends."""

import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

import torch
import torch.distributed as dist
from torch import nn

from kaccore import flow_matching_loss
from kaccore.augment import augment, flip
from kaccore.data import ImageData
from kaccore.files import CorruptFileError
from kaccore.losses import drop_labels
from kaccore.tensors import generator_for, sent
from kaccore.training import BatchLoss, Training, batch_indices, shard_of
from orchestrator.plan import data as dataset_info
from orchestrator.plan.stage import Stage
from orchestrator.store.failures import cause
from orchestrator.store.leases import LeaseLostError, newest
from orchestrator.store.store import Store, disk_refuses
from orchestrator.work import building
from orchestrator.work.job import Job
from orchestrator.work.training_log import TrainingLog, reporting

Loss = Callable[[nn.Module, torch.Tensor, torch.Tensor | None, torch.Generator, slice], torch.Tensor]


@dataclass(frozen=True)
class Group:
    """This process's place in the worker group."""

    rank: int
    world: int
    device: torch.device


def train_stages(job: Job) -> None:
    """What every worker of a Ray Train group does."""
    import ray.train
    import ray.train.torch

    torch.set_num_threads(job.threads)
    context = ray.train.get_context()
    group = Group(context.get_world_rank(), context.get_world_size(), ray.train.torch.get_device())
    if group.device.type == "cuda":
        torch.cuda.set_device(group.device)
    for stage in job.stages:
        try:
            run_training_stage(stage, job, group)
        except LeaseLostError:
            raise  # another process goes on with the stage: nothing has failed
        except Exception as e:
            with suppress(OSError):  # a full disk takes no last words; the cause travels with the exception too
                last_words(stage, job, e)
            raise
        ray.train.report({"finished": stage.key})


def run_training_stage(stage: Stage, job: Job, group: Group) -> None:
    """Train one stage from its last checkpoint, or its start, to its end; rank 0 writes the result."""
    store = Store(job.storage)
    if store.done(stage.key):
        return
    with reporting(store, stage):
        _train(stage, job, group, store)


def _train(stage: Stage, job: Job, group: Group, store: Store) -> None:
    teacher = stage.lineage()[0]
    data = dataset_info.checked(dataset_info.images(job.data), stage)
    model = building.network(stage, data) if stage is teacher else building.student(store, stage, data)
    model = _placed(model, group.device)
    if job.compile:
        model.compile()
    forward = nn.parallel.DistributedDataParallel(model) if group.world > 1 else model
    training = Training(model, building.optimiser_settings(stage), forward)
    log = TrainingLog(stage, store, training, job.saving, job.leases[job.stages.index(stage)])
    log.resume()
    frozen = None if stage is teacher else _placed(building.trained(store, stage.parents[0], data), group.device)
    for step, metrics in training.run(batch_loss(stage, frozen, data, training.ema.model, group), group.rank):
        if group.rank == 0:
            fid = None
            if job.watch is not None and job.watch.due(stage, step):
                from orchestrator.work import teacher_fid  # torchvision too, seconds that most teachers can spare

                fid = teacher_fid.fid(job.watch, training.ema.model, stage, data, store)
            log.after(step, metrics, fid)
    if group.rank == 0:
        log.publish(dataset_info.sizes(data))
    if group.world > 1:
        dist.barrier()


def _placed(model: nn.Module, device: torch.device) -> nn.Module:
    """`model` on `device`; on a GPU, where convolutions are then faster, with channels that lie side by side. On a CPU
    that was measured to make no difference."""
    model = model.to(device)
    return model if device.type == "cpu" else model.to(memory_format=torch.channels_last)


def last_words(stage: Stage, job: Job, error: Exception) -> None:
    """Leave why `stage` failed, for the coordinator and for trials that wait for it; nothing where others have taken it
    over meanwhile, or finished it, as while this node was cut off."""
    store = Store(job.storage)
    if newest(store.root / "work" / stage.key) != job.leases[job.stages.index(stage)]:
        return
    final = disk_refuses(error) or (isinstance(error, ValueError) and not isinstance(error, CorruptFileError))
    failure = {
        "run": job.run,
        "final": final,
        "cause": cause(stage, error),
        "traceback": "".join(traceback.format_exception(error)),
    }
    # the first rank to fail is the cause, unless another knows better: its peers only see the group break
    if final or not (store.work(stage.key) / "failure.json").exists():
        store.write_failure(stage, failure)


def batch_loss(stage: Stage, frozen: nn.Module | None, data: ImageData, averaged: nn.Module, group: Group) -> BatchLoss:
    """The loss of part number k of a stage's batches; `frozen` is the network that teaches a student, `averaged` the
    one whose weights are the average of those in training."""
    teacher = stage.lineage()[0]
    seed, batch_size = stage.config["seed"], stage.config["optimise"]["batch_size"]
    accumulate, flipped = stage.config["optimise"].get("accumulate", 1), stage.config.get("flip", False)
    labelled = teacher.config["label_dropout"] is not None and data.classes > 0
    path = building.path(teacher, data)
    if frozen is None:
        loss = _teacher_loss(stage, path)
    else:
        loss = building.distiller(stage, frozen, path, target=averaged).loss

    def of_part(model: nn.Module, part: int) -> torch.Tensor:
        index = batch_indices(len(data), batch_size, part, seed, accumulate)
        generator = generator_for(seed, stage.stream, part, 0, device=group.device)  # all workers draw the same
        labels = sent(data.labels[index], group.device) if labelled and data.labels is not None else None
        x0 = data.batch(index, group.device)
        x0, shard = flip(x0, generator) if flipped else x0, shard_of(len(x0), group.rank, group.world)
        return loss(model, x0, labels, generator, shard)

    return of_part


def _teacher_loss(stage: Stage, path: building.Path) -> Loss:
    dropout, chance = stage.config["label_dropout"], stage.config.get("augment", 0.0)

    def loss(
        model: nn.Module, x0: torch.Tensor, labels: torch.Tensor | None, generator: torch.Generator, shard: slice
    ) -> torch.Tensor:
        if labels is not None:
            labels = drop_labels(labels, dropout, generator)
        if not chance:
            return flow_matching_loss(model, path, x0, labels, generator, shard)
        x0, told = augment(x0, generator, chance)
        return flow_matching_loss(partial(model, augment=told[shard]), path, x0, labels, generator, shard)

    return loss
