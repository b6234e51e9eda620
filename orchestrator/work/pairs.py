"""Pairs of noise and where a network arrives from it: drawn by a worker group, part by part, and kept
as a stage's result."""

import time

import torch
import torch.distributed as dist
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from kaccore.checkpoint import write_tensors
from kaccore.data import ImageData
from kaccore.distill import Pairs
from kaccore.sampling import sample
from kaccore.tensors import derive_seed, generator_for
from orchestrator.plan import data as dataset_info
from orchestrator.plan.stage import Stage
from orchestrator.store import layout
from orchestrator.store.leases import LeaseLostError, newest
from orchestrator.store.place import Place
from orchestrator.store.store import Store
from orchestrator.work import building
from orchestrator.work.batch_loss import Group
from orchestrator.work.job import Job
from orchestrator.work.training_log import leave, tell

IMAGES_PER_PART = 1024
ENDS, LABELS = "ends", "labels"


def make(stage: Stage, job: Job, group: Group, store: Store) -> None:
    """Draw the pairs of `stage`. Each worker of the group draws every so many a part and writes it to
    the stage's work folder, where parts of an interrupted run are found; rank 0 joins and publishes
    them."""
    start = time.perf_counter()
    data = dataset_info.checked(dataset_info.images(job.data), stage)
    count = stage.pairs_spec.pairs.count
    folder = store.work(stage.key) / layout.PARTS
    if group.rank == 0:
        folder.mkdir(parents=True, exist_ok=True)
    if group.world > 1:
        dist.barrier()
    network = building.trained(store, stage.parents[0], data).to(group.device)
    labels = _labels(stage, data)
    firsts = range(0, count, IMAGES_PER_PART)
    for first in firsts[group.rank :: group.world]:
        if newest(store.work(stage.key)) > job.leases[job.stages.index(stage)]:
            raise LeaseLostError(f"{folder}: taken over by another process")
        if job.orders.stops(stage.key):
            leave(store.work(stage.key), job.leases[job.stages.index(stage)])
        part = folder / f"{first:09d}.safetensors"
        if _read(part) is None:
            indices = range(first, min(first + IMAGES_PER_PART, count))
            part.put(save({ENDS: _ends(stage, network, data, indices, labels)}))
        tell(store.work(stage.key), {"doing": f"drawing pairs: {first} of {count}"})
    if group.world > 1:
        dist.barrier()
    if group.rank == 0:
        ends = [_read(folder / f"{first:09d}.safetensors") for first in firsts]
        tensors = {ENDS: torch.cat([part for part in ends if part is not None])}
        if labels is not None:
            tensors[LABELS] = labels
        gathered = store.gather(stage)
        write_tensors(gathered / layout.PAIRS, tensors)
        seconds = time.perf_counter() - start
        store.publish(stage, gathered, seconds, dataset_info.sizes(data), group.world)
    if group.world > 1:
        dist.barrier()


def read(stage: Stage, store: Store) -> Pairs:
    """The finished pairs of `stage`."""
    tensors = store.result(stage.key).tensors(layout.PAIRS)
    return Pairs(tensors[ENDS], tensors.get(LABELS), _seed(stage))


def _seed(stage: Stage) -> int:
    """The seed of the noise, of which that of an evaluation is independent."""
    return derive_seed(stage.pairs_spec.seed, "pairs")


def _labels(stage: Stage, data: ImageData) -> Tensor | None:
    """The labels (N,) of all pairs: those of the data in a random order, again and again."""
    if data.labels is None or not stage.teacher_spec.labelled:
        return None
    count = stage.pairs_spec.pairs.count
    generator = generator_for(_seed(stage), "labels")
    rounds = -(-count // len(data))
    orders = [torch.randperm(len(data), generator=generator) for _ in range(rounds)]
    return data.labels[torch.cat(orders)[:count]]


def _ends(
    stage: Stage, network: torch.nn.Module, data: ImageData, indices: range, labels: Tensor | None
) -> Tensor:
    """Where the network arrives from the noise of the pairs number `indices`."""
    settings = stage.pairs_spec.pairs
    grid = None if stage.parents[0].student is None else stage.parents[0].student.grid
    shape = (len(indices), data.channels, data.size, data.size)
    drawn = sample(
        network,
        building.path(stage.teacher, data),
        shape,
        solver=settings.solver,
        steps=settings.steps,
        seed=_seed(stage),
        labels=None if labels is None else labels[indices.start : indices.stop],
        guidance=settings.guidance,
        times=None if grid is None else torch.tensor(grid),
        first=indices.start,
    )
    return drawn.images


def _read(part: Place) -> Tensor | None:
    """The ends in the file of a part; None if it is missing or damaged."""
    try:
        return load(part.read_bytes())[ENDS]
    except (FileNotFoundError, SafetensorError, KeyError):
        return None
