"""Starts a Ray Train worker group for a job and waits for its end."""

import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ray.exceptions import RayError
from ray.train import FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchConfig, TorchTrainer
from ray.train.torch.config import _TorchBackend

from orchestrator.blocks import Cluster
from orchestrator.workers import Job, train_stages


class _Backend(_TorchBackend):
    """Ray's own, but its goodbye to workers that were killed for want of memory is not an error: Ray Train would stop
    clearing up, and keep the group's CPUs and GPUs reserved until the driver ends."""

    def on_shutdown(self, worker_group: Any, backend_config: Any) -> None:
        with suppress(RayError):  # they are dead, which is what was wanted
            super().on_shutdown(worker_group, backend_config)


@dataclass
class _Config(TorchConfig):
    @property
    def backend_cls(self) -> type[_Backend]:
        return _Backend


def fit(job: Job, cluster: Cluster, folder: Path) -> None:
    """Run `job` on `cluster.workers` workers; `folder` takes Ray's own files. Raises what a worker raised."""
    resources: dict[str, float] = {"CPU": cluster.cpus_per_worker}
    if cluster.gpus_per_worker:
        resources["GPU"] = cluster.gpus_per_worker
    trainer = TorchTrainer(
        train_stages,
        train_loop_config={"job": job},
        scaling_config=ScalingConfig(
            num_workers=cluster.workers, use_gpu=cluster.gpus_per_worker > 0, resources_per_worker=resources
        ),
        torch_config=_Config(backend="nccl" if cluster.gpus_per_worker else "gloo"),
        run_config=RunConfig(
            name=f"train-{job.stages[0].key}-{time.time_ns()}",
            storage_path=str(folder),
            failure_config=FailureConfig(max_failures=0),  # whoever holds the lease retries, and knows what is worth it
        ),
    )
    trainer.fit()
