"""The connection to Ray: join a cluster or start one on this machine, without Ray's log output."""

import gc
import importlib
import logging
import os
import secrets
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from orchestrator.cluster import local_ray, ray_internals
from orchestrator.fields.options import option
from orchestrator.host import environment, machine
from orchestrator.store.provenance import COMMIT, export_commit

NAMESPACE = "kacflow"
PROBE_SECONDS = 10.0
# share of the memory for Ray's object store, and its minimum: Ray's own values
OBJECT_STORE_SHARE = 0.3
MIN_OBJECT_STORE_BYTES = 80_000_000
REFUSED = (
    "the Ray cluster there refuses this process: set RAY_AUTH_MODE=token and put the cluster's "
    "token into ~/.ray/auth_token"
)
TOO_BUSY = (
    "Ray did not start on this machine within its 30 seconds: end other work here, or run the same "
    "command again"
)


def prepare_environment(address: str | None = None) -> None:
    """Set the variables that Ray and MLflow read at import; what the user has set stays.

    A cluster that is started here, without an `address`, gets a random token, so that only this
    process and its children can use it: Ray listens on all addresses of the machine, and with
    ray[serve] installed its agent executes commands over HTTP."""
    environment.prepare()
    starts_cluster = address_of(address) is None
    ray_imported = "ray" in sys.modules  # Ray reads the mode at import: too late to change it
    if starts_cluster and "RAY_AUTH_MODE" not in os.environ and not ray_imported:
        os.environ["RAY_AUTH_MODE"] = "token"
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
    elif not os.environ.get("RAY_ADDRESS"):
        os.environ.setdefault("RAY_AUTH_MODE", "disabled")  # silences a warning


def address_of(given: str | None) -> str | None:
    """The address of the cluster: `given` or else RAY_ADDRESS; None where a cluster is to be
    started on this machine."""
    address = given or os.environ.get("RAY_ADDRESS")
    return None if address == "local" else address


# whether `connect` has connected this process, and not its user
_connected_here = False


def connect(address: str | None) -> None:
    """Join the cluster at `address` or at RAY_ADDRESS, or start one on this machine. A connection
    that this process has already is used.

    Raises ConnectionError where nothing answers at the address, where the cluster refuses access,
    or where this machine is too busy to start Ray.
    """
    prepare_environment(address)
    import ray

    if ray.is_initialized():
        return
    global _connected_here
    commit = export_commit()
    address = address_of(address)
    common = {"namespace": NAMESPACE, "log_to_driver": False, "logging_level": logging.ERROR}
    if address is None:
        # saves starting processes: nobody preempts this machine, and a prestarted worker would stay
        # unused, since the first tasks run in a runtime environment of their own
        os.environ.setdefault("RAY_TRAIN_ENABLE_PREEMPTION_WATCHER", "0")
        os.environ.setdefault("RAY_prestart_worker_first_driver", "0")
        # Ray ends idle processes after a second where there are more than CPUs: an evaluation would
        # import torch and read the features again
        os.environ.setdefault("RAY_idle_worker_killing_time_threshold_ms", "30000")
        # Ray Tune imports pandas, which takes a second: import it while ray.init waits for processes
        pandas_import = threading.Thread(
            target=importlib.import_module, args=("pandas",), daemon=True
        )
        pandas_import.start()
        with ray_internals.any_agent_port(), _slow_start_explained():
            ray.init(address="local", include_dashboard=False, **_local_options(), **common)
        pandas_import.join()
    else:
        _check_reachable(address)
        # workers on other machines do not inherit this process's environment
        variables = {**environment.QUIET, COMMIT: commit}
        if "://" not in address and address != "auto":
            variables["RAY_ADDRESS"] = address
        try:
            ray.init(address=address, runtime_env={"env_vars": variables}, **common)
        except ValueError as e:
            raise ConnectionError(f"{_named(address)}: {e}") from None
        except ConnectionError:  # the port answers: `_check_reachable` has tried it
            raise ConnectionError(f"{_named(address)}: {REFUSED}") from None
    _connected_here = True
    for name in ("ray", "ray.tune", "ray.train", "ray.data"):
        # failures are reported by the coordinators
        logging.getLogger(name).setLevel(logging.CRITICAL)


@contextmanager
def _slow_start_explained() -> Iterator[None]:
    """Raise Ray's error about processes that take over 30 seconds to start, which is a plain
    Exception, as a ConnectionError with a remedy."""
    try:
        yield
    except Exception as e:
        if "timed out during startup" not in str(e):
            raise
        raise ConnectionError(TOO_BUSY) from e


def _local_options() -> dict[str, Any]:
    """Options of ray.init for a cluster on this machine: its CPUs, memory and folder. Ray itself
    counts every CPU, sees no memory limit but a container's, and does not check whether the path of
    its folder is short enough. Raises ConfigError where no folder is usable."""
    local_ray.check()  # for callers that did not check before
    folder, memory = local_ray.ray_folder(), machine.memory()
    assert folder is not None, "or else the check would have refused"
    options: dict[str, Any] = {"num_cpus": machine.cpus(), "_temp_dir": str(folder.path)}
    if folder.why:  # in a folder that all users share: keep the others out
        folder.path.parent.mkdir(mode=0o700, exist_ok=True)
    if objects_folder := local_ray.objects_folder():
        options["_plasma_directory"] = str(objects_folder)
    if memory < ray_internals.system_memory():
        objects = max(int(OBJECT_STORE_SHARE * memory), MIN_OBJECT_STORE_BYTES)
        options |= {"object_store_memory": objects, "_memory": memory - objects}
    return options


def _check_reachable(address: str) -> None:
    """Raise ConnectionError where nothing listens at a host:port; Ray would retry for 15
    minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not port.isdigit():
        return  # "auto", or another form that Ray parses itself
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=PROBE_SECONDS).close()
    except (OSError, OverflowError) as e:
        raise ConnectionError(f"{_named(address)}: no Ray cluster answers there ({e})") from None


def _named(address: str) -> str:
    """An address as it was given, for a message."""
    return f"{option('address')} {address}"


def dashboard() -> str:
    """The URL of the connected cluster's dashboard; empty where it has none, such as one started
    here."""
    url = ray_internals.dashboard_url()
    return f"http://{url}" if url else ""


@contextmanager
def sigterm_interrupts() -> Iterator[None]:
    """SIGTERM raises KeyboardInterrupt within this context, like Ctrl-C. `connect` replaces the
    handler by Ray's own. Another thread than the main one cannot set a handler: nothing changes."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    previous = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)


def disconnect() -> None:
    """Leave the cluster that `connect` has joined; one that it has started ends with all its
    processes. The connection that a user has made before stays."""
    global _connected_here
    if not _connected_here:
        return
    import ray

    _connected_here = False
    # if the garbage collector frees an actor's handle in the view's or the publisher's thread
    # during the shutdown, Ray aborts the process
    gc.collect()
    gc.disable()
    try:
        ray.shutdown()
    finally:
        gc.enable()
