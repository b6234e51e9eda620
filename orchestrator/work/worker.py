"""What runs on each Ray Train worker: the missing stages of a chain, one after the other, each
saved as it ends."""

import traceback
from contextlib import suppress

import torch
import torch.distributed as dist
from torch import nn

from kaccore.files import CorruptFileError
from kaccore.training import Training
from orchestrator.plan import data as dataset_info
from orchestrator.plan.stage import Stage
from orchestrator.store import layout
from orchestrator.store.failures import cause
from orchestrator.store.leases import LeaseLostError, newest
from orchestrator.store.store import Store, storage_refuses
from orchestrator.work import building
from orchestrator.work.batch_loss import Group, batch_loss
from orchestrator.work.job import Job
from orchestrator.work.training_log import TrainingLog, reporting


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
            with suppress(
                OSError
            ):  # a full disk takes no last words; the cause travels with the exception too
                last_words(stage, job, e)
            raise
        ray.train.report({"finished": stage.key})


def run_training_stage(stage: Stage, job: Job, group: Group) -> None:
    """Train one stage from its last checkpoint, or its start, to its end; rank 0 writes the
    result."""
    store = Store(job.storage)
    if store.done(stage.key):
        return
    with reporting(store, stage):
        _train(stage, job, group, store)


def _train(stage: Stage, job: Job, group: Group, store: Store) -> None:
    teacher = stage.teacher
    data = dataset_info.checked(dataset_info.images(job.data), stage)
    model = (
        building.network(stage, data) if stage is teacher else building.student(store, stage, data)
    )
    model = _placed(model, group.device)
    if job.compile:
        model.compile()
    forward = nn.parallel.DistributedDataParallel(model) if group.world > 1 else model
    training = Training(model, building.optimiser_settings(stage), forward)
    log = TrainingLog(stage, store, training, job.saving, job.leases[job.stages.index(stage)])
    log.resume()
    frozen = (
        None
        if stage is teacher
        else _placed(building.trained(store, stage.parents[0], data), group.device)
    )
    for step, metrics in training.run(
        batch_loss(stage, frozen, data, training.ema.model, group), group.rank
    ):
        if group.rank == 0:
            fid = None
            if job.watch is not None and job.watch.due(stage, step):
                from orchestrator.work import (
                    teacher_fid,
                )  # torchvision too, seconds that most teachers can spare

                fid = teacher_fid.fid(job.watch, training.ema.model, stage, data, store)
            log.after(step, metrics, fid)
    if group.rank == 0:
        log.publish(dataset_info.sizes(data))
    if group.world > 1:
        dist.barrier()


def _placed(model: nn.Module, device: torch.device) -> nn.Module:
    """`model` on `device`; on a GPU, where convolutions are then faster, with channels that lie
    side by side. On a CPU that was measured to make no difference."""
    model = model.to(device)
    return model if device.type == "cpu" else model.to(memory_format=torch.channels_last)


def last_words(stage: Stage, job: Job, error: Exception) -> None:
    """Leave why `stage` failed, for the coordinator and for trials that wait for it; nothing where
    others have taken it over meanwhile, or finished it, as while this node was cut off."""
    store = Store(job.storage)
    if newest(store.root / layout.WORK / stage.key) != job.leases[job.stages.index(stage)]:
        return
    final = storage_refuses(error) or (
        isinstance(error, ValueError) and not isinstance(error, CorruptFileError)
    )
    failure = {
        "run": job.run,
        "final": final,
        "cause": cause(stage, error),
        "traceback": "".join(traceback.format_exception(error)),
    }
    # the first rank to fail is the cause, unless another knows better: its peers only see the group
    # break
    if final or not (store.work(stage.key) / layout.FAILURE).exists():
        store.write_failure(stage, failure)
