"""What is made once for all processes of a run of the tests: results that are only read, and one
Ray for the tests that are not about starting one."""

import json
import os
import pickle
import secrets
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import psutil
import pytest
from filelock import FileLock

T = TypeVar("T")
CPUS = 6  # three tests may share it, and each of them takes two at most
OBJECT_BYTES = 200_000_000
PATIENCE = 1100.0  # a busy machine starts Ray slowly; nothing is judged by how long it takes


def folder_of_all(factory: pytest.TempPathFactory) -> Path:
    """A folder of this run of the tests, which all of its processes see."""
    own = factory.getbasetemp()
    return own.parent if "PYTEST_XDIST_WORKER" in os.environ else own


def once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], T]) -> tuple[Path, T]:
    """A folder called `name`, and what `make` has returned for it when it was empty; the first
    process that asks makes it, and the others wait for it."""
    folder = folder_of_all(factory) / name
    kept = folder.with_name(f"{name}.pickle")
    with FileLock(f"{kept}.lock"):
        if not kept.exists():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            kept.write_bytes(pickle.dumps(make(folder)))
    return folder, pickle.loads(kept.read_bytes())


@contextmanager
def running_ray(factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """What in the environment of a command leads it to the Ray of all. The first process that asks
    starts it, and who leaves last waits until it has ended."""
    folder = folder_of_all(factory) / "ray"
    way, user = folder / "environment.json", folder / f"{os.getpid()}.user"
    folder.mkdir(exist_ok=True)
    with FileLock(folder / "lock"):
        user.touch()
        if not way.exists():
            _start(folder, way)
    try:
        yield {name: str(value) for name, value in json.loads(way.read_text()).items()}
    finally:
        with FileLock(folder / "lock"):
            user.unlink()
            if not _used(folder):
                _wait_for(lambda: not way.exists(), folder)


def _start(folder: Path, way: Path) -> None:
    environment = {
        **os.environ,
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
        "RAY_prestart_worker_first_driver": "0",
    }
    environment.pop("RAY_ADDRESS", None)
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, __file__, str(folder)], env=environment, stdout=log, stderr=log,
            start_new_session=True,
        )  # fmt: skip
    _wait_for(lambda: way.exists() or process.poll() is not None, folder)
    assert way.exists(), (folder / "log").read_text()


def _wait_for(happened: Callable[[], bool], folder: Path) -> None:
    until = time.monotonic() + PATIENCE
    while not happened():
        assert time.monotonic() < until, (folder / "log").read_text()
        time.sleep(0.1)


def _used(folder: Path) -> bool:
    """Whether one of the processes that have asked for it is still there and has not left."""
    return any(psutil.pid_exists(int(user.stem)) for user in folder.glob("*.user"))


def _serve(folder: Path) -> None:
    """A Ray, until nobody uses it any more, also where its users were killed."""
    from ray.cluster_utils import Cluster

    cluster = Cluster(
        initialize_head=True,
        head_node_args={
            "num_cpus": CPUS,
            "object_store_memory": OBJECT_BYTES,
            "include_dashboard": False,
        },
    )
    session = Path(cluster.head_node.get_session_dir_path())
    names = ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN")
    way = {"RAY_ADDRESS": cluster.address} | {name: os.environ[name] for name in names}
    part = folder / "environment.part"
    part.write_text(json.dumps(way))
    part.rename(folder / "environment.json")
    while _used(folder):
        time.sleep(0.2)
    cluster.shutdown()
    shutil.rmtree(session, ignore_errors=True)
    (folder / "environment.json").unlink()


if __name__ == "__main__":
    _serve(Path(sys.argv[1]))
