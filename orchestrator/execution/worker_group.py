"""Starts a Ray Train worker group for a job and waits for its end.

This trainer omits parts of Ray Train's TorchTrainer that are of no use here and cost seconds a
start and hundreds of megabytes a group:
- the import of torch in the coordinator, which trains nothing;
- the actor of the controller: the controller runs in the coordinator, which waits for it anyway;
- the actor for Ray datasets, of which there are none;
- the actor that cleans up placement groups: `placement_groups` does, also without a dashboard;
- the actor that requests resources from the autoscaler, which sees the pending placement group."""

import asyncio
import os
import time
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import RayError
from ray.train import FailureConfig, RunConfig, ScalingConfig
from ray.train.backend import Backend, BackendConfig

from orchestrator.cluster.ray_internals import (
    DataParallelTrainer,
    DatasetsCallback,
    PlacementGroupCleanerCallback,
    TrainController,
    abort_workers,
    get_address_and_port,
)
from orchestrator.execution.group_size import Elasticity, ElasticSize, FixedSize
from orchestrator.settings.blocks import Cluster
from orchestrator.work.job import Job

COLLECTIVE_SECONDS = 1800.0  # the limit of a collective operation with a slow or dead peer
LEAVE_SECONDS = 30.0


class _Trainer(DataParallelTrainer):
    elasticity: Elasticity | None = None  # None: a fixed size

    def _create_default_callbacks(self) -> list[Any]:
        omitted = DatasetsCallback, PlacementGroupCleanerCallback
        return [c for c in super()._create_default_callbacks() if not isinstance(c, omitted)]

    def _initialize_and_run_controller(self, **settings: Any) -> Any:
        size = FixedSize(self.scaling_config)
        if self.elasticity is not None:
            size = ElasticSize(self.scaling_config, self.elasticity)
        controller = TrainController(**{**settings, "scaling_policy": size})
        try:
            asyncio.run(controller.run())
        except BaseException:
            abort_workers(controller)
            raise
        finally:
            size.close()
        return controller.get_result()


class _Backend(Backend):
    share_cuda_visible_devices = True

    def on_start(self, worker_group: Any, backend_config: Any) -> None:
        """Form the workers' process group, where there are several."""
        world = len(worker_group)
        if world == 1:
            return
        address, port = worker_group.execute_single(0, get_address_and_port)
        backend = backend_config.backend
        joins = [
            worker_group.execute_single_async(rank, _join, backend, address, port, rank, world)
            for rank in range(world)
        ]
        ray.get(joins)

    def on_shutdown(self, worker_group: Any, backend_config: Any) -> None:
        """Destroy the process group. Errors of dead workers are ignored: Ray Train would stop its
        cleanup, and the group's CPUs and GPUs would stay reserved until the driver ends."""
        if len(worker_group) > 1:
            with suppress(RayError):
                ray.get(worker_group.execute_async(_leave), timeout=LEAVE_SECONDS)


@dataclass
class _BackendConfig(BackendConfig):
    backend: str  # of torch.distributed

    @property
    def backend_cls(self) -> type[_Backend]:
        return _Backend


def _join(backend: str, address: str, port: int, rank: int, world: int) -> None:
    import torch.distributed as dist

    # torch.distributed reads both variables
    os.environ["MASTER_ADDR"] = address
    os.environ["MASTER_PORT"] = str(port)
    timeout = timedelta(seconds=COLLECTIVE_SECONDS)
    dist.init_process_group(backend, timeout=timeout, world_size=world, rank=rank)


def _leave() -> None:
    import torch.distributed as dist

    if dist.is_initialized():
        dist.destroy_process_group()


def _work(config: dict[str, Any]) -> None:
    from orchestrator.work.worker import train_stages

    train_stages(**config)


def fit(job: Job, cluster: Cluster, folder: Path, elasticity: Elasticity | None = None) -> None:
    """Run `job` on as many workers as `cluster` and `elasticity` say; Ray writes its own files into
    `folder`. Raises the error of a worker."""
    resources: dict[str, float] = {"CPU": cluster.cpus_per_worker}
    if cluster.gpus_per_worker:
        resources["GPU"] = cluster.gpus_per_worker
    trainer = _Trainer(
        _work,
        train_loop_config={"job": job},
        scaling_config=ScalingConfig(
            num_workers=cluster.min_workers,
            use_gpu=cluster.gpus_per_worker > 0,
            resources_per_worker=resources,
        ),
        backend_config=_BackendConfig("nccl" if cluster.gpus_per_worker else "gloo"),
        run_config=RunConfig(
            name=f"train-{job.stages[0].key}-{time.time_ns()}",
            storage_path=str(folder),
            # the stage runner, which holds the leases, decides whether to retry
            failure_config=FailureConfig(max_failures=0),
        ),
    )
    trainer.elasticity = elasticity
    trainer.fit()
