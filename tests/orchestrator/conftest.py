import shutil
import subprocess
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import fabricated
import pytest
import s3_server
import shared
from commands import REPOSITORY, SHARED, free_port, run, settings
from stages import kinds_restored

from orchestrator.store.folder import Folder
from orchestrator.store.place import Place
from orchestrator.sweeps.records import Records
from orchestrator.tracking import database


@pytest.fixture(scope="session", autouse=True)
def tables_are_made_once(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """MLflow takes a second to make the tables of a new database. In this process it makes them
    once, and further databases begin as a copy of that one."""
    made, make = tmp_path_factory.mktemp("tables") / "mlflow.db", database.make_tables

    def copy(file: Path) -> None:
        if not made.exists():
            make(made)
        shutil.copyfile(made, file)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(database, "make_tables", copy)
        yield


@pytest.fixture(scope="module")
def quick_measures() -> Iterator[None]:
    """What an evaluation measures is measured by few samples."""
    import in_process  # here: it imports torchvision, which takes seconds, and most tests need none

    with in_process.quick_measures():
        yield


@dataclass(frozen=True)
class SweepRun:
    """The default sweep, run once with tiny numbers: where, by which arguments, and what it
    said."""

    cwd: Path
    arguments: list[str]
    said: subprocess.CompletedProcess[str]

    @property
    def storage(self) -> Path:
        return self.cwd / "runs"

    @property
    def folder(self) -> Path:
        (folder,) = (self.storage / "sweeps" / "nfe-sweep").iterdir()
        return folder


@pytest.fixture(autouse=True)
def other_tests_see_no_plugins() -> Iterator[None]:
    with kinds_restored():
        yield


@pytest.fixture(scope="session")
def default_sweep(tmp_path_factory: pytest.TempPathFactory) -> SweepRun:
    tiny = settings(
        model__channels=8, teacher__steps=40, teacher__batch_size=16, distill__steps=10, distill__batch_size=16,
        **{f"distill__stages__{n}__pairs": 64 for n in (1, 2, 3, 4)},
        evaluation__samples=64,
    )  # fmt: skip
    arguments = [str(REPOSITORY / "experiments" / "nfe_sweep.yaml"), *tiny]
    cwd, said = shared.once(tmp_path_factory, "default", lambda cwd: run(cwd, "sweep", *arguments))
    return SweepRun(cwd, arguments, said)


@pytest.fixture
def copied(default_sweep: SweepRun, tmp_path: Path) -> SweepRun:
    """The finished sweep in a folder of its own, to be changed."""
    shutil.copytree(default_sweep.storage, tmp_path / "runs")
    return SweepRun(tmp_path, default_sweep.arguments, default_sweep.said)


@pytest.fixture(scope="session")
def running_ray(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    with shared.running_ray(tmp_path_factory) as way:
        yield way


@pytest.fixture(scope="module")
def shared_ray(running_ray: dict[str, str]) -> Iterator[None]:
    """The commands of these tests work on the Ray that is running: starting one is what other tests
    are about."""
    SHARED.update(running_ray)
    yield
    SHARED.clear()


@pytest.fixture
def on_shared_ray(running_ray: dict[str, str]) -> Iterator[None]:
    """The same for one test, in a file whose others start their own."""
    SHARED.update(running_ray)
    yield
    SHARED.clear()


@pytest.fixture(scope="session")
def fabricated_sweep(tmp_path_factory: pytest.TempPathFactory) -> Records:
    """A finished sweep, published when it was interrupted, and twice when it was over."""
    records = fabricated.sweep(tmp_path_factory.mktemp("fabricated") / "runs")
    fabricated.publish(records, "KILLED")
    assert fabricated.versions(records) == []
    for _ in range(2):
        fabricated.publish(records)
    return records


@pytest.fixture(scope="session")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[s3_server.Service]:
    """A running S3 service with a bucket, which this process and those that it starts are told
    of."""
    folder = tmp_path_factory.mktemp("s3")
    with (
        pytest.MonkeyPatch.context() as patch,
        s3_server.running(free_port(), folder / "log") as running,
    ):
        for name, value in {**running.environment, "XDG_CACHE_HOME": str(folder / "cache")}.items():
            patch.setenv(name, value)
        from orchestrator.store.s3_client import client

        client().create_bucket(Bucket=s3_server.BUCKET)
        yield running
        client.cache_clear()


@pytest.fixture
def bucket(service: s3_server.Service) -> Iterator[Place]:
    """A prefix of its own in a service that does not fail yet."""
    from orchestrator.store.s3_place import S3Place

    service.tell()
    yield S3Place(s3_server.BUCKET, f"runs/{uuid.uuid4().hex[:8]}")
    service.tell()


@pytest.fixture(params=["folder", "s3"])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    """The place of an empty store of either kind."""
    if request.param == "s3":
        return request.getfixturevalue("bucket")
    Folder(tmp_path / "runs").mkdir()
    return Folder(tmp_path / "runs")
