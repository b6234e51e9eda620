"""All uses of Ray's private API, each behind a function named after its purpose.

No other module imports a private name of Ray. If a new version of Ray lacks a name, `missing`
reports it with the function that needs it."""

import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partialmethod
from pathlib import Path
from typing import Any

NEEDED = {  # module, and the attribute within it: what for
    "ray._private.state:state.get_max_resources_from_cluster_config": "max_resources: what a cluster may grow to",
    "ray._private.state:state._connect_and_get_accessor": "placement_groups: their creators, and which are dead",
    "ray.core.generated.gcs_pb2:PlacementGroupTableData.FromString": "placement_groups: to read Ray's own table",
    "ray._common.utils:get_system_memory": "system_memory: what Ray counts by itself",
    "ray._private.parameter:RayParams.__init__": "any_agent_port: two runs on one machine",
    "ray._private.worker:get_dashboard_url": "dashboard_url",
    "ray._private.worker:global_worker": "log_folder: the provider's errors",
    "ray._private.worker:_global_node": "session_folder: the disk of Ray's sockets, logs and spilled objects",
    "ray._private.ray_constants:DEBUG_AUTOSCALING_ERROR": "autoscaler_status",
    "ray._private.ray_constants:DEBUG_AUTOSCALING_STATUS": "autoscaler_status",
    "ray.autoscaler._private.commands:debug_status": "autoscaler_status: what `ray status` prints",
    "ray.experimental.internal_kv:_internal_kv_get": "autoscaler_status",
    "ray.air._internal.usage:tag_callbacks": "uncounted_callbacks: it imports Ray's callbacks for Comet and W&B",
    "ray.train._internal.utils:get_address_and_port": "train: where the first worker of a group listens",
    "ray.train.v2._internal.callbacks.datasets:DatasetsCallback": "train: an actor for datasets, left out",
    "ray.train.v2._internal.callbacks.placement_group_callback:PlacementGroupCleanerCallback": "train: likewise",
    "ray.train.v2._internal.execution.controller:TrainController.run": "train: a group without an actor of its own",
    "ray.train.v2._internal.execution.controller:TrainController.get_result": "train: likewise",
    "ray.train.v2._internal.execution.scaling_policy:FixedScalingPolicy.after_controller_start": "train: fixed size",
    "ray.train.v2._internal.execution.scaling_policy:FixedScalingPolicy._maybe_send_resource_request": "train: this",
    "ray.train.v2._internal.execution.scaling_policy:NoopDecision": "train: a group whose size changes",
    "ray.train.v2._internal.execution.scaling_policy:ResizeDecision": "train: likewise",
    "ray.train.v2.api.config:ScalingConfig._resources_per_worker_not_none": "train: likewise",
    "ray.train.v2.api.data_parallel_trainer:DataParallelTrainer._create_default_callbacks": "train: callbacks left out",
    "ray.train.v2.api.data_parallel_trainer:DataParallelTrainer._initialize_and_run_controller": "train: no actor",
    "ray.train.v2._internal.execution.worker_group:WorkerGroup.abort": "abort_workers: to free their placement group",
}

TRAIN = {  # private classes and functions of Ray Train, and their modules
    "DatasetsCallback": "ray.train.v2._internal.callbacks.datasets",
    "PlacementGroupCleanerCallback": "ray.train.v2._internal.callbacks.placement_group_callback",
    "TrainController": "ray.train.v2._internal.execution.controller",
    "FixedScalingPolicy": "ray.train.v2._internal.execution.scaling_policy",
    "NoopDecision": "ray.train.v2._internal.execution.scaling_policy",
    "ResizeDecision": "ray.train.v2._internal.execution.scaling_policy",
    "DataParallelTrainer": "ray.train.v2.api.data_parallel_trainer",
    "get_address_and_port": "ray.train._internal.utils",
}


def missing() -> list[str]:
    """A sentence for each name of NEEDED that the installed Ray lacks."""
    import ray

    messages = []
    for name, need in NEEDED.items():
        module, _, attribute = name.partition(":")
        try:
            value: Any = importlib.import_module(module)
            for part in attribute.split("."):
                value = getattr(value, part)
        except (ImportError, AttributeError) as e:
            what = f"Ray {ray.__version__} has no {module}.{attribute}"
            messages.append(f"{what}, needed for {need} ({e})")
    return messages


def max_resources() -> dict[str, Any] | None:
    """The resources to which the connected cluster may grow, from its configuration; None where it
    sets no limit."""
    from ray._private.state import state

    return state.get_max_resources_from_cluster_config()


def placement_groups() -> list[Any]:
    """All placement groups in Ray's global control store. The public table lacks their creators and
    whether those are dead."""
    from ray._private.state import state
    from ray.core.generated.gcs_pb2 import PlacementGroupTableData

    table = state._connect_and_get_accessor().get_placement_group_table()
    return [PlacementGroupTableData.FromString(row) for row in table]


def system_memory() -> int:
    """The bytes of memory that Ray counts by itself."""
    from ray._common.utils import get_system_memory

    return int(get_system_memory())


@contextmanager
def any_agent_port() -> Iterator[None]:
    """Within this context the agent of a Ray that starts listens on any free port. With ray[serve]
    it would wait four seconds for port 52365, which another run or another process may hold."""
    from ray._private.parameter import RayParams

    original = RayParams.__init__
    RayParams.__init__ = partialmethod(original, dashboard_agent_listen_port=0)
    try:
        yield
    finally:
        RayParams.__init__ = original


@contextmanager
def uncounted_callbacks() -> Iterator[None]:
    """Within this context Ray Tune does not count callbacks for its usage statistics, which are
    off: the count imports Ray's integrations of Comet, W&B and MLflow."""
    from ray.air._internal import usage

    original = usage.tag_callbacks
    usage.tag_callbacks = lambda callbacks: False
    try:
        yield
    finally:
        usage.tag_callbacks = original


def dashboard_url() -> str:
    """Host and port of the dashboard of the connected cluster; empty where it has none."""
    from ray._private.worker import get_dashboard_url

    return get_dashboard_url() or ""


def log_folder() -> Path:
    """The folder of Ray's logs on this node. Raises AttributeError where this process is not
    connected."""
    from ray._private.worker import global_worker

    return Path(global_worker.node.get_logs_dir_path())


def session_folder() -> Path | None:
    """The folder of Ray's sockets, logs and spilled objects on this node; None where this process
    is not connected."""
    from ray._private import worker

    node = worker._global_node
    return None if node is None else Path(node.get_session_dir_path())


def autoscaler_status() -> str:
    """What `ray status` prints. Raises whatever Ray does without an autoscaler or its packages."""
    import ray
    from ray._private.ray_constants import DEBUG_AUTOSCALING_ERROR, DEBUG_AUTOSCALING_STATUS
    from ray.autoscaler._private.commands import debug_status
    from ray.experimental.internal_kv import _internal_kv_get

    status = _internal_kv_get(DEBUG_AUTOSCALING_STATUS)
    error = _internal_kv_get(DEBUG_AUTOSCALING_ERROR)
    return str(debug_status(status, error, address=ray.get_runtime_context().gcs_address))


def __getattr__(name: str) -> Any:
    """The names of TRAIN, for `execution.worker_group`; the first access imports Ray Train."""
    if name not in TRAIN:
        raise AttributeError(f"module {__name__} has no attribute {name}")
    return getattr(importlib.import_module(TRAIN[name]), name)


def abort_workers(controller: Any) -> None:
    """End the worker group of a TrainController, if it has one: its CPUs and GPUs would stay
    reserved until this process ends."""
    if controller._worker_group is not None:
        controller._worker_group.abort()
