"""The Ray cluster: connecting to one or starting one here, in silence, and what has to be true
before work starts."""

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
from orchestrator.host import environment, machine
from orchestrator.store.provenance import COMMIT, announce

NAMESPACE = "kacflow"
PROBE_SECONDS = 10.0
# of the memory, for Ray's objects: its own default, and its least
OBJECT_SHARE = 0.3
LEAST_OBJECT_BYTES = 80_000_000
NOT_LET_IN = (
    "no Ray cluster lets this process in there: it needs RAY_AUTH_MODE=token and the cluster's "
    "token, ~/.ray/auth_token"
)


def quieten(address: str | None = None) -> None:
    """Set what Ray and MLflow read at import; what the user has set himself stays.

    A cluster that is started here, for want of an `address`, lets in only whom this process starts:
    Ray listens on all of the machine's addresses, and where its agent has what it needs
    (ray[serve]) it takes commands over HTTP."""
    environment.prepare()
    here = address_of(address) is None
    if (
        here and "RAY_AUTH_MODE" not in os.environ and "ray" not in sys.modules
    ):  # imported, it goes by what it read
        os.environ["RAY_AUTH_MODE"] = "token"
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
    elif not os.environ.get("RAY_ADDRESS"):
        os.environ.setdefault("RAY_AUTH_MODE", "disabled")  # silences a warning


def address_of(given: str | None) -> str | None:
    """The address of the cluster that `given`, or else RAY_ADDRESS, means; None for one that is to
    be started here."""
    address = given or os.environ.get("RAY_ADDRESS")
    return None if address == "local" else address


def connect(address: str | None) -> None:
    """Join the cluster at `address`, or the one in RAY_ADDRESS, or start one on this machine.

    Raises ConnectionError where nothing answers there.
    """
    quieten(address)
    import ray

    if ray.is_initialized():
        return
    commit = announce()
    address = address_of(address)
    common = {"namespace": NAMESPACE, "log_to_driver": False, "logging_level": logging.ERROR}
    if address is None:
        # processes less to start: nobody takes this machine back, and those for the first tasks
        # would wait for none, since whatever comes first has an environment of its own
        os.environ.setdefault("RAY_TRAIN_ENABLE_PREEMPTION_WATCHER", "0")
        os.environ.setdefault("RAY_prestart_worker_first_driver", "0")
        # Ray Tune needs pandas, and ray.init, which only waits for processes, does not
        meanwhile = threading.Thread(target=importlib.import_module, args=("pandas",), daemon=True)
        meanwhile.start()
        with ray_internals.any_agent_port():
            ray.init(address="local", include_dashboard=False, **_limits(), **common)
        meanwhile.join()
    else:
        _probe(address)
        # workers on other machines do not have this process's environment
        try:
            own = {} if "://" in address or address == "auto" else {"RAY_ADDRESS": address}
            ray.init(
                address=address,
                runtime_env={"env_vars": {**environment.QUIET, **own, COMMIT: commit}},
                **common,
            )
        except ValueError as e:
            raise ConnectionError(f"--address {address}: {e}") from None
        except ConnectionError:  # something answers there, as was seen before
            raise ConnectionError(f"--address {address}: {NOT_LET_IN}") from None
    for name in ("ray", "ray.tune", "ray.train", "ray.data"):
        logging.getLogger(name).setLevel(
            logging.CRITICAL
        )  # failures come back through the coordinators


def _limits() -> dict[str, Any]:
    """What a Ray that is started here is told of this machine: by itself it counts every CPU and,
    but for a container's own limit, all the memory, and takes its folder for short enough. Raises
    ConfigError where no folder will do."""
    local_ray.check()  # whoever comes here by another way than a run
    folder, memory = local_ray.ray_folder(), machine.memory()
    assert folder is not None, "or else the check would have refused"
    limits: dict[str, Any] = {"num_cpus": machine.cpus(), "_temp_dir": str(folder.path)}
    if folder.why:  # where others may write too, and Ray would let them
        folder.path.parent.mkdir(mode=0o700, exist_ok=True)
    if memory < ray_internals.system_memory():
        objects = max(int(OBJECT_SHARE * memory), LEAST_OBJECT_BYTES)
        limits |= {"object_store_memory": objects, "_memory": memory - objects}
    return limits


def _probe(address: str) -> None:
    """Raise ConnectionError where nothing listens at a host:port; Ray would try for a quarter of an
    hour."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not port.isdigit():
        return  # "auto", or something that Ray knows what to make of
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=PROBE_SECONDS).close()
    except (OSError, OverflowError) as e:
        raise ConnectionError(f"--address {address}: no Ray cluster answers there ({e})") from None


def dashboard() -> str:
    """The address of the dashboard of the cluster that is connected; empty where it has none, as
    one started here."""
    url = ray_internals.dashboard_url()
    return f"http://{url}" if url else ""


@contextmanager
def terminable() -> Iterator[None]:
    """SIGTERM interrupts like Ctrl-C while this is open; `connect` within it puts Ray's own handler
    in its place."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def disconnect() -> None:
    """Leave the cluster; one that was started here ends with all its processes."""
    import ray

    # a view's or publisher's thread that happened to collect a handle of an actor right now would
    # abort the process
    gc.collect()
    gc.disable()
    try:
        ray.shutdown()
    finally:
        gc.enable()
