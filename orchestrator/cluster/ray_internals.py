"""Every private name of Ray's that this project relies on, each behind a function named after the
need for it.

Nothing else imports one. Where a new version of Ray lacks a name, `missing` says which one and what
needed it."""

import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partialmethod
from pathlib import Path
from typing import Any

NEEDED = {  # module, and the attribute within it: what for
    "ray._private.state:state.get_max_resources_from_cluster_config": "most_resources: what a cluster may grow to",
    "ray._private.state:state._connect_and_get_accessor": "placement_groups: whose they are, and whether he lives",
    "ray.core.generated.gcs_pb2:PlacementGroupTableData.FromString": "placement_groups: to read Ray's own table",
    "ray._common.utils:get_system_memory": "system_memory: what Ray would count by itself",
    "ray._private.parameter:RayParams.__init__": "any_agent_port: two runs on one machine",
    "ray._private.worker:get_dashboard_url": "dashboard_url",
    "ray._private.worker:global_worker": "log_folder: the provider's answers",
    "ray._private.worker:_global_node": "session_folder: the disk of Ray's sockets, logs and spilled objects",
    "ray._private.ray_constants:DEBUG_AUTOSCALING_ERROR": "autoscaler_status",
    "ray._private.ray_constants:DEBUG_AUTOSCALING_STATUS": "autoscaler_status",
    "ray.autoscaler._private.commands:debug_status": "autoscaler_status: what `ray status` prints",
    "ray.experimental.internal_kv:_internal_kv_get": "autoscaler_status",
    "ray.air._internal.usage:tag_callbacks": "uncounted_callbacks: it would import what Ray has for Comet and W&B",
    "ray.train._internal.utils:get_address_and_port": "train: where the first worker of a group listens",
    "ray.train.v2._internal.callbacks.datasets:DatasetsCallback": "train: an actor for datasets, left out",
    "ray.train.v2._internal.callbacks.placement_group_callback:PlacementGroupCleanerCallback": "train: likewise",
    "ray.train.v2._internal.execution.controller:TrainController.run": "train: a group without an actor of its own",
    "ray.train.v2._internal.execution.controller:TrainController.get_result": "train: likewise",
    "ray.train.v2._internal.execution.scaling_policy:FixedScalingPolicy.after_controller_start": "train: fixed size",
    "ray.train.v2._internal.execution.scaling_policy:FixedScalingPolicy._maybe_send_resource_request": "train: this",
    "ray.train.v2.api.data_parallel_trainer:DataParallelTrainer._create_default_callbacks": "train: callbacks left out",
    "ray.train.v2.api.data_parallel_trainer:DataParallelTrainer._initialize_and_run_controller": "train: no actor",
    "ray.train.v2._internal.execution.worker_group:WorkerGroup.abort": "abort_workers: to free what they reserved",
}

TRAIN = {  # Ray Train's parts, and their modules
    "DatasetsCallback": "ray.train.v2._internal.callbacks.datasets",
    "PlacementGroupCleanerCallback": "ray.train.v2._internal.callbacks.placement_group_callback",
    "TrainController": "ray.train.v2._internal.execution.controller",
    "FixedScalingPolicy": "ray.train.v2._internal.execution.scaling_policy",
    "DataParallelTrainer": "ray.train.v2.api.data_parallel_trainer",
    "get_address_and_port": "ray.train._internal.utils",
}


def missing() -> list[str]:
    """A sentence for each name of NEEDED that the installed Ray lacks."""
    import ray

    said = []
    for name, need in NEEDED.items():
        module, _, path = name.partition(":")
        try:
            found: Any = importlib.import_module(module)
            for part in path.split("."):
                found = getattr(found, part)
        except (ImportError, AttributeError) as e:
            said.append(f"Ray {ray.__version__} has no {module}.{path}, needed for {need} ({e})")
    return said


def most_resources() -> dict[str, Any] | None:
    """The resources to which the connected cluster may grow, as its configuration says; None where
    it says nothing."""
    from ray._private.state import state

    return state.get_max_resources_from_cluster_config()


def placement_groups() -> list[Any]:
    """All placement groups as Ray's control store knows them: its public table leaves out who made
    them, and whether that actor is dead."""
    from ray._private.state import state
    from ray.core.generated.gcs_pb2 import PlacementGroupTableData

    return list(
        map(
            PlacementGroupTableData.FromString,
            state._connect_and_get_accessor().get_placement_group_table(),
        )
    )


def system_memory() -> int:
    """The bytes of memory that Ray counts by itself."""
    from ray._common.utils import get_system_memory

    return int(get_system_memory())


@contextmanager
def any_agent_port() -> Iterator[None]:
    """A Ray that starts within lets its agent listen wherever it can. With ray[serve] it would
    insist for four seconds on port 52365, which another run on this machine has, or whoever the
    system gave it to."""
    from ray._private.parameter import RayParams

    plain = RayParams.__init__
    RayParams.__init__ = partialmethod(plain, dashboard_agent_listen_port=0)
    try:
        yield
    finally:
        RayParams.__init__ = plain


@contextmanager
def uncounted_callbacks() -> Iterator[None]:
    """Ray Tune within does not count callbacks for its usage statistics, which are off: to do so it
    imports whatever Ray has for Comet, W&B and MLflow."""
    from ray.air._internal import usage

    plain = usage.tag_callbacks
    usage.tag_callbacks = lambda callbacks: False
    try:
        yield
    finally:
        usage.tag_callbacks = plain


def dashboard_url() -> str:
    """Host and port of the dashboard of the connected cluster; empty where it has none."""
    from ray._private.worker import get_dashboard_url

    return get_dashboard_url() or ""


def log_folder() -> Path:
    """Where the Ray of this node, which has to be connected, logs. Raises AttributeError where it
    is not."""
    from ray._private.worker import global_worker

    return Path(global_worker.node.get_logs_dir_path())


def session_folder() -> Path | None:
    """Where the Ray of this node has its sockets, logs and spilled objects; None where this process
    has none."""
    from ray._private import worker

    node = worker._global_node
    return None if node is None else Path(node.get_session_dir_path())


def autoscaler_status() -> str:
    """What `ray status` prints. Raises whatever Ray does without an autoscaler or its packages."""
    import ray
    from ray._private.ray_constants import DEBUG_AUTOSCALING_ERROR, DEBUG_AUTOSCALING_STATUS
    from ray.autoscaler._private.commands import debug_status
    from ray.experimental.internal_kv import _internal_kv_get

    said = [_internal_kv_get(name) for name in (DEBUG_AUTOSCALING_STATUS, DEBUG_AUTOSCALING_ERROR)]
    return str(debug_status(*said, address=ray.get_runtime_context().gcs_address))


def __getattr__(name: str) -> Any:
    """The names of TRAIN, of which `execution.worker_group` makes a trainer; the first one imports
    Ray Train."""
    if name not in TRAIN:
        raise AttributeError(f"module {__name__} has no attribute {name}")
    return getattr(importlib.import_module(TRAIN[name]), name)


def abort_workers(controller: Any) -> None:
    """End the worker group of a TrainController, which has one or not: its CPUs and GPUs would be
    reserved as long as this process lives."""
    if controller._worker_group is not None:
        controller._worker_group.abort()
