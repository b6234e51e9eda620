"""The code of each Ray Train worker: it trains the missing stages of a chain in sequence, and
publishes each when it is finished."""

import traceback
from contextlib import suppress

import torch
import torch.distributed as dist
from torch import nn

from kaccore.data import ImageData
from kaccore.files import CorruptFileError
from kaccore.training import Training
from orchestrator.plan import data as dataset_info
from orchestrator.plan.stage import Stage
from orchestrator.store import layout
from orchestrator.store.failures import cause
from orchestrator.store.leases import LeaseLostError, newest
from orchestrator.store.store import Store, storage_refuses
from orchestrator.work import building, pairs
from orchestrator.work.batch_loss import Group, batch_loss
from orchestrator.work.job import Job
from orchestrator.work.training_log import TrainingLog, leave, reporting, sampled


def train_stages(job: Job) -> None:
    """Train the stages of `job`; runs on each worker of a Ray Train group."""
    import ray.train
    import ray.train.torch

    torch.set_num_threads(job.threads)
    context = ray.train.get_context()
    group = Group(context.get_world_rank(), context.get_world_size(), ray.train.torch.get_device())
    if group.device.type == "cuda":
        torch.cuda.set_device(group.device)
    for stage in job.stages:
        try:
            run_stage(stage, job, group)
        except LeaseLostError:
            raise  # another process continues the stage: this is not a failure
        except Exception as e:
            # the disk may be full; the exception carries the cause as well
            with suppress(OSError):
                last_words(stage, job, e)
            raise
        ray.train.report({"finished": stage.key})


def run_stage(stage: Stage, job: Job, group: Group) -> None:
    """Train one stage to its end, from its last checkpoint if there is one, or draw its pairs; rank 0
    publishes the result."""
    store = Store(job.storage)
    if store.done(stage.key):
        return
    with reporting(store, stage):
        if group.rank == 0 and job.orders.stops(stage.key):
            leave(store.work(stage.key), job.leases[job.stages.index(stage)])
        if stage.kind == "pairs":
            pairs.make(stage, job, group, store)
        else:
            _train(stage, job, group, store)


def _train(stage: Stage, job: Job, group: Group, store: Store) -> None:
    teacher = stage.teacher
    data = dataset_info.checked(dataset_info.images(job.data), stage)
    frozen = None
    if stage is teacher:
        model = building.network(stage, data)
        if stage.teacher_spec.weights is not None:
            from orchestrator.work import foreign_weights

            model.load_state_dict(foreign_weights.load(store, stage))
    else:
        frozen = building.trained(store, stage.parents[0], data)
        model = building.student(store, stage, data, frozen)
        frozen = _placed(frozen, group.device)
    model = _placed(model, group.device)
    if job.compile:
        model.compile()
    forward = nn.parallel.DistributedDataParallel(model) if group.world > 1 else model
    training = Training(model, building.optimiser_settings(stage), forward)
    lease = job.leases[job.stages.index(stage)]
    log = TrainingLog(stage, store, training, job.saving, lease, job.orders, group.world)
    log.resume()
    drawn = None if stage.pairs is None else pairs.read(stage.pairs, store)
    loss = batch_loss(stage, frozen, data, training.ema.model, group, drawn)
    for step, metrics in training.run(loss, group.rank):
        if group.rank == 0:
            look = None
            if job.watch is not None and job.watch.due(stage, step):
                # imported here: torchvision takes seconds, and most stages need no FID
                from orchestrator.work import looks

                look = looks.look(job.watch, training.ema.model, stage, data, store)
            log.after(step, metrics, look)
    if group.rank == 0:
        from orchestrator.work import final_samples

        networks = networks_of(stage, training, data)
        final = building.with_tone(training.ema.model, networks[layout.NETWORK])
        picture = final_samples.png(stage, final.to(group.device), data)
        log.publish(networks, picture, dataset_info.sizes(data))
        if stage is teacher and stage.teacher_spec.weights is not None:
            foreign_weights.in_store(store, stage).unlink(missing_ok=True)
    if group.world > 1:
        dist.barrier()


def networks_of(
    stage: Stage, training: Training, data: ImageData
) -> dict[str, dict[str, torch.Tensor]]:
    """The networks of a finished training, by file: one for each average of the weights, with a tone
    curve of its own if the stage is calibrated."""
    averages = {layout.NETWORK: training.ema.model}
    averages |= {layout.network(decay): ema.model for decay, ema in training.averages.items()}
    networks = {file: sampled(dict(model.state_dict())) for file, model in averages.items()}
    if stage.training_spec.optimise.calibrate:
        from orchestrator.work import calibration

        for file, model in averages.items():
            networks[file] |= building.tone_tensors(calibration.fit(stage, model, data))
    return networks


def _placed(model: nn.Module, device: torch.device) -> nn.Module:
    """`model` on `device`; on a GPU in the memory format channels last, with which convolutions are
    faster. On a CPU no difference was measured."""
    model = model.to(device)
    return model if device.type == "cpu" else model.to(memory_format=torch.channels_last)


def last_words(stage: Stage, job: Job, error: Exception) -> None:
    """Write why `stage` failed, for the coordinator and for trials that wait for it. Nothing is
    written if another process has taken over or finished the stage, for example while this node was
    disconnected."""
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
    # the first rank that fails has the cause, and its peers only notice that the group breaks; a
    # final failure replaces it
    if final or not (store.work(stage.key) / layout.FAILURE).exists():
        store.write_failure(stage, failure)
