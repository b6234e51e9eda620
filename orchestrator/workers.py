"""What runs on each Ray Train worker: the missing stages of a chain, one after the other, each saved as it ends."""

import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import nn

from kaccore import EndpointDistiller, flow_matching_loss
from kaccore.data import ImageData, load
from kaccore.files import CorruptFileError
from kaccore.losses import drop_labels
from kaccore.tensors import generator_for
from kaccore.training import BatchLoss, Training, batch_indices
from orchestrator import build
from orchestrator.leases import LeaseLostError
from orchestrator.plan import Stage
from orchestrator.store import Store, disk_refuses
from orchestrator.training_log import Saving, TrainingLog


@dataclass(frozen=True)
class Job:
    """What a worker group is asked to do."""

    stages: tuple[Stage, ...]
    leases: tuple[int, ...]  # the number of the lease under which each is run
    storage: str
    data_root: str | None
    saving: Saving
    threads: int
    run: str  # the invocation that asks: a failure is final for it, and tried again by the next one


@dataclass(frozen=True)
class Group:
    """This process's place in the worker group."""

    rank: int
    world: int
    device: torch.device


def train_stages(config: dict[str, Any]) -> None:
    """Ray Train's entry on every rank: `config["job"]` is a `Job`."""
    import ray.train
    import ray.train.torch

    job: Job = config["job"]
    torch.set_num_threads(job.threads)
    context = ray.train.get_context()
    group = Group(context.get_world_rank(), context.get_world_size(), ray.train.torch.get_device())
    for stage in job.stages:
        try:
            run_training_stage(stage, job, group)
        except LeaseLostError:
            raise  # another process goes on with the stage: nothing has failed
        except Exception as e:
            final = disk_refuses(e) or (isinstance(e, ValueError) and not isinstance(e, CorruptFileError))
            with suppress(OSError):  # a full disk takes no last words; the cause travels with the exception too
                write_failure(Store(job.storage), stage, job.run, e, final)
            raise
        ray.train.report({"finished": stage.key})


def run_training_stage(stage: Stage, job: Job, group: Group) -> None:
    """Train one stage from its last checkpoint, or its start, to its end; rank 0 writes the result."""
    store = Store(job.storage)
    if store.done(stage.key):
        return
    teacher = stage.lineage()[0]
    data = load(teacher.config["data"]["name"], Path(job.data_root) if job.data_root else None)
    _check_fingerprint(data, teacher)
    model = build.network(teacher, data).to(group.device)
    if stage.kind == "student":  # the student starts from its teacher's averaged weights
        model.load_state_dict(_averaged(store, stage.parents[0]))
    forward = nn.parallel.DistributedDataParallel(model) if group.world > 1 else model
    training = Training(model, build.optimiser_settings(stage), forward)
    log = TrainingLog(stage, store, training, job.saving, job.leases[job.stages.index(stage)])
    log.resume()
    for step, metrics in training.run(_batch_loss(stage, store, data, group), group.rank):
        if group.rank == 0:
            log.after(step, metrics)
    if group.rank == 0:
        log.publish()
    if group.world > 1:
        dist.barrier()


def write_failure(store: Store, stage: Stage, run: str, error: Exception, final: bool) -> None:
    """Leave why `stage` failed, for the coordinator and for trials that wait for it. `final`: no use in retrying."""
    failure = {
        "run": run,
        "final": final,
        "cause": f"{stage.label}: {type(error).__name__}: {error}",
        "traceback": "".join(traceback.format_exception(error)),
    }
    # the first rank to fail is the cause, unless another knows better: its peers only see the group break
    if final or not (store.work(stage.key) / "failure.json").exists():
        store.write_failure(stage, failure)


def _batch_loss(stage: Stage, store: Store, data: ImageData, group: Group) -> BatchLoss:
    teacher = stage.lineage()[0]
    seed, batch_size = stage.config["seed"], stage.config["optimise"]["batch_size"]
    x, path = data.floats(), build.path(teacher, data)
    labelled = teacher.config["label_dropout"] is not None and data.classes > 0
    loss = _stage_loss(stage, store, data, path, group)

    def batch_loss(model: nn.Module, step: int) -> torch.Tensor:
        index = batch_indices(len(x), batch_size, step, seed, group.rank, group.world)
        generator = generator_for(seed, stage.label, step, group.rank, device=group.device)
        labels = data.labels[index].to(group.device) if labelled and data.labels is not None else None
        return loss(model, x[index].to(group.device), labels, generator)

    return batch_loss


def _stage_loss(
    stage: Stage, store: Store, data: ImageData, path: build.Path, group: Group
) -> Callable[[nn.Module, torch.Tensor, torch.Tensor | None, torch.Generator], torch.Tensor]:
    if stage.kind == "teacher":
        dropout = stage.config["label_dropout"]

        def teacher_loss(
            model: nn.Module, x0: torch.Tensor, labels: torch.Tensor | None, generator: torch.Generator
        ) -> torch.Tensor:
            if labels is not None:
                labels = drop_labels(labels, dropout, generator)
            return flow_matching_loss(model, path, x0, labels, generator)

        return teacher_loss
    frozen = build.network(stage.lineage()[0], data).to(group.device)
    frozen.load_state_dict(_averaged(store, stage.parents[0]))
    settings = {k: stage.config[k] for k in ("intervals", "substeps", "solver", "guidance", "target")}
    return EndpointDistiller(frozen.eval().requires_grad_(False), path, **settings).loss


def _averaged(store: Store, stage: Stage) -> dict[str, torch.Tensor]:
    return store.result(stage.key).tensors("model.safetensors")


def _check_fingerprint(data: ImageData, teacher: Stage) -> None:
    if data.fingerprint != teacher.config["data"]["fingerprint"]:
        found = data.fingerprint[:12]
        raise ValueError(f"data {data.name!r} on this node (fingerprint {found}) differs from the driver's")
