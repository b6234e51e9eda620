"""Starts a Ray Train worker group for a job and waits for its end.

Of what Ray Train's TorchTrainer brings, this leaves out what costs a start seconds and each group
hundreds of megabytes for nothing here: torch in the process that trains nothing; an actor for the
controller, which works in the process that waits for it as well; and the actors that look after Ray
datasets, which there are none of, after placement groups (`placement_groups` does, also without a
dashboard) and after the autoscaler, which sees the placement group that waits."""

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
    FixedScalingPolicy,
    PlacementGroupCleanerCallback,
    TrainController,
    abort_workers,
    get_address_and_port,
)
from orchestrator.settings.blocks import Cluster
from orchestrator.work.job import Job

JOIN_SECONDS = 1800.0  # for a collective operation, and so for a peer that is slow or gone
LEAVE_SECONDS = 30.0


class _Policy(FixedScalingPolicy):
    """So many workers, and no words about them with an actor of the autoscaler's."""

    def after_controller_start(self, train_run_context: Any) -> None:
        pass

    def _maybe_send_resource_request(self) -> None:
        pass


class _Trainer(DataParallelTrainer):
    def _create_default_callbacks(self) -> list[Any]:
        needless = DatasetsCallback, PlacementGroupCleanerCallback
        return [c for c in super()._create_default_callbacks() if not isinstance(c, needless)]

    def _initialize_and_run_controller(self, **settings: Any) -> Any:
        controller = TrainController(**{**settings, "scaling_policy": _Policy(self.scaling_config)})
        try:
            asyncio.run(controller.run())
        except BaseException:
            abort_workers(controller)
            raise
        return controller.get_result()


class _Backend(Backend):
    share_cuda_visible_devices = True

    def on_start(self, worker_group: Any, backend_config: Any) -> None:
        """Join the workers, where there are several."""
        world = len(worker_group)
        if world == 1:
            return
        address, port = worker_group.execute_single(0, get_address_and_port)
        joining = [
            worker_group.execute_single_async(
                rank, _join, backend_config.backend, address, port, rank, world
            )
            for rank in range(world)
        ]
        ray.get(joining)

    def on_shutdown(self, worker_group: Any, backend_config: Any) -> None:
        """Part them. That some are dead is no error: Ray Train would stop clearing up, and keep the
        group's CPUs and GPUs reserved until the driver ends."""
        if len(worker_group) > 1:
            with suppress(RayError):
                ray.get(worker_group.execute_async(_leave), timeout=LEAVE_SECONDS)


@dataclass
class _Joined(BackendConfig):
    backend: str  # of torch.distributed

    @property
    def backend_cls(self) -> type[_Backend]:
        return _Backend


def _join(backend: str, address: str, port: int, rank: int, world: int) -> None:
    import torch.distributed as dist

    # which torch looks for
    os.environ["MASTER_ADDR"] = address
    os.environ["MASTER_PORT"] = str(port)
    dist.init_process_group(
        backend, timeout=timedelta(seconds=JOIN_SECONDS), world_size=world, rank=rank
    )


def _leave() -> None:
    import torch.distributed as dist

    if dist.is_initialized():
        dist.destroy_process_group()


def _work(config: dict[str, Any]) -> None:
    from orchestrator.work.worker import train_stages

    train_stages(**config)


def fit(job: Job, cluster: Cluster, folder: Path) -> None:
    """Run `job` on `cluster.workers` workers; `folder` takes Ray's own files. Raises what a worker
    raised."""
    resources: dict[str, float] = {"CPU": cluster.cpus_per_worker}
    if cluster.gpus_per_worker:
        resources["GPU"] = cluster.gpus_per_worker
    trainer = _Trainer(
        _work,
        train_loop_config={"job": job},
        scaling_config=ScalingConfig(
            num_workers=cluster.workers,
            use_gpu=cluster.gpus_per_worker > 0,
            resources_per_worker=resources,
        ),
        backend_config=_Joined("nccl" if cluster.gpus_per_worker else "gloo"),
        run_config=RunConfig(
            name=f"train-{job.stages[0].key}-{time.time_ns()}",
            storage_path=str(folder),
            failure_config=FailureConfig(
                max_failures=0
            ),  # whoever holds the lease retries, and knows what is worth it
        ),
    )
    trainer.fit()
