"""What runs on each Ray Train worker: the missing stages of a chain, one after the other, each saved as it ends."""

import json
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import nn

from kaccore import EndpointDistiller, flow_matching_loss
from kaccore.checkpoint import load_checkpoint, save_checkpoint, write_tensors
from kaccore.data import ImageData, load
from kaccore.files import CorruptFileError, write_json
from kaccore.losses import drop_labels
from kaccore.tensors import generator_for
from kaccore.training import BatchLoss, Training, batch_indices
from orchestrator import build
from orchestrator.plan import Stage
from orchestrator.store import Store

LOSS_POINTS = 200  # a loss curve has about this many points
PROGRESS_SECONDS = 0.5


@dataclass(frozen=True)
class Job:
    """What a worker group is asked to do. `every_*` and `keep` say how training is checkpointed."""

    stages: tuple[Stage, ...]
    storage: str
    data_root: str | None
    every_steps: int
    every_minutes: float
    keep: int
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
        except Exception as e:
            final = isinstance(e, ValueError) and not isinstance(e, CorruptFileError)
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
    log = TrainingLog(stage, store, training, job)
    log.resume()
    for step, metrics in training.run(_batch_loss(stage, store, data, group), group.rank):
        if group.rank == 0:
            log.after(step, metrics)
    if group.rank == 0:
        log.publish()
    if group.world > 1:
        dist.barrier()


class TrainingLog:
    """Rank 0's side of a training stage: loss curve, progress for whoever watches, checkpoints, the result."""

    def __init__(self, stage: Stage, store: Store, training: Training, job: Job) -> None:
        self.stage, self.store, self.training, self.job = stage, store, training, job
        self.folder = store.work(stage.key)
        self.losses: list[dict[str, float]] = []
        self.every = max(1, stage.steps // LOSS_POINTS)
        self.seconds_before, self.started = 0.0, time.monotonic()
        self.first_step, self.saved, self.told, self.pending = 0, time.monotonic(), 0.0, [0.0, 0]

    @property
    def seconds(self) -> float:
        """Seconds spent on this stage, those before an interruption included."""
        return self.seconds_before + time.monotonic() - self.started

    def resume(self) -> None:
        """Continue from the newest whole checkpoint; a damaged one is set aside."""
        for described in sorted((self.folder / "checkpoints").glob("step-*.json"), reverse=True):
            try:
                tensors, numbers = load_checkpoint(described)
            except CorruptFileError as e:
                print(f"warning: set aside a damaged checkpoint: {e}", flush=True)
                described.rename(described.with_suffix(".damaged"))
                continue
            self.training.restore(tensors, numbers)
            self.losses, self.seconds_before = numbers["losses"], numbers["seconds"]
            self.first_step = self.training.step
            return

    def after(self, step: int, metrics: dict[str, float]) -> None:
        """Note one step."""
        now = time.monotonic()
        self.pending = [self.pending[0] + metrics["loss"], self.pending[1] + 1]
        if step % self.every == 0 or step == self.stage.steps:
            self.losses.append({"step": step, "loss": self.pending[0] / self.pending[1], "lr": metrics["lr"]})
            self.pending = [0.0, 0]
        if now - self.told > PROGRESS_SECONDS:
            self.told = now
            self._tell(step, now)
        due = step % self.job.every_steps == 0 or now - self.saved > 60 * self.job.every_minutes
        if due and step < self.stage.steps:
            self.save()
            self.saved = time.monotonic()

    def save(self) -> None:
        """Write a checkpoint and remove the oldest beyond `keep`."""
        tensors, numbers = self.training.state()
        folder = self.folder / "checkpoints"
        save_checkpoint(folder, tensors, {**numbers, "losses": self.losses, "seconds": self.seconds})
        for old in sorted(folder.glob("step-*.json"))[: -self.job.keep]:
            old.unlink()
            old.with_suffix(".safetensors").unlink(missing_ok=True)

    def publish(self) -> None:
        """Put the averaged weights, the last trained weights and the loss curve into the store."""
        gathered = self.store.gather(self.stage)
        write_tensors(gathered / "model.safetensors", dict(self.training.ema.model.state_dict()))
        write_json(gathered / "losses.json", self.losses)
        self.store.publish(self.stage, gathered, self.seconds)

    def _tell(self, step: int, now: float) -> None:
        rate = (step - self.first_step) / max(now - self.started, 1e-9)
        progress = {
            "step": step,
            "steps": self.stage.steps,
            "loss": self.losses[-1]["loss"] if self.losses else None,
            "images_per_second": rate * self.stage.config["optimise"]["batch_size"],
            "seconds_left": (self.stage.steps - step) / rate if rate else None,
        }
        tell(self.folder, progress)


def tell(folder: Path, progress: dict[str, Any]) -> None:
    """Leave `progress` in a work folder, for views: a file replaced at once, not flushed, and never an error."""
    aside = folder / ".progress.tmp"
    try:
        aside.write_text(json.dumps(progress))
        aside.replace(folder / "progress.json")
    except OSError:
        pass  # a view that lags is better than a training that stops


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
