"""The copy of MLflow's database in a store on a network file system, which machines exchange: each of
them, here, has another folder for its own files."""

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import fabricated
import pytest
from mlflow import MlflowClient

from orchestrator import ui
from orchestrator.host import mounts
from orchestrator.networks import locate
from orchestrator.store import layout, leases
from orchestrator.store.folder import Folder
from orchestrator.sweeps.records import Records
from orchestrator.tracking import publisher as publishing
from orchestrator.tracking.publisher import Publisher
from orchestrator.tracking.shared_copy import fetch
from orchestrator.tracking.uri import embedded, sqlite_uri


class Machines:
    """Machines that share the store `root`, by name."""

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch) -> None:
        self.folder, self.patch = folder, patch
        self.root = Folder(folder / "shared" / "runs")
        self.copy = Path(self.root) / layout.MLFLOW / "mlflow.db"
        table = (
            f"1 0 8:1 / / rw - ext4 /dev/sda1 rw\n2 1 0:2 / {folder}/shared rw - nfs4 server:/ rw"
        )
        (folder / "mountinfo").write_text(table)
        patch.setattr(mounts, "MOUNTINFO", folder / "mountinfo")

    def on(self, machine: str) -> None:
        """What follows is done on this one."""
        self.patch.setenv("XDG_CACHE_HOME", str(self.folder / machine))

    def publisher(self, machine: str, records: Records) -> "Process":
        return Process(self, machine, records)

    def shown(self) -> dict[str, int]:
        """The runs of each experiment that the copy has, read without the machines' own files."""
        file = Path(shutil.copy(self.copy, self.folder / "read.db"))
        client = MlflowClient(sqlite_uri(file))
        experiments = [e for e in client.search_experiments() if e.name != "Default"]
        found = {e.name: client.search_runs([e.experiment_id]) for e in experiments}
        for run in [run for runs in found.values() for run in runs]:
            # the artifacts lie in the store, where every machine reads them
            assert run.info.artifact_uri.startswith((self.copy.parent / "mlartifacts").as_uri())
        return {name: len(runs) for name, runs in found.items()}

    def version(self) -> int:
        with closing(sqlite3.connect(self.copy)) as database:
            return int(database.execute("PRAGMA user_version").fetchone()[0])


class Process:
    """A process of a machine that publishes a sweep."""

    def __init__(self, machines: Machines, machine: str, records: Records) -> None:
        self.machines, self.machine = machines, machine
        machines.on(machine)
        self._publisher = Publisher(records)

    @property
    def problem(self) -> str:
        return self._publisher.problem

    def attempt(self, status: str | None = None) -> bool:
        self.machines.on(self.machine)
        return self._publisher.attempt(status)

    def finish(self) -> None:
        self.machines.on(self.machine)
        self._publisher.finish("FINISHED")


@pytest.fixture
def machines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machines:
    return Machines(tmp_path, monkeypatch)


@pytest.fixture
def sweeps(machines: Machines) -> dict[str, Records]:
    """Two sweeps of one store, which have all their trainings in common."""
    machines.on("w1")
    return {
        name: fabricated.sweep(machines.root, fabricated.experiment(name))
        for name in ("one", "other")
    }


RUNS = 1 + 3 + 3  # of each sweep: itself, its networks, its trials


def test_another_machine_opens_the_copy_and_says_from_when_it_is(machines, sweeps, capsys):
    publisher = machines.publisher("w1", sweeps["one"])
    publisher.finish()
    assert publisher.problem == ""
    assert machines.shown() == {"one": RUNS}
    machines.on("desk")
    asked: list[list[str]] = []
    machines.patch.setattr(ui.os, "execv", lambda _, words: asked.append(words))
    machines.patch.setattr(ui, "listener", lambda port: "")
    ui.main(["--storage", str(machines.root)])
    said = capsys.readouterr().out
    file = embedded(machines.root).file
    assert file.is_relative_to(machines.folder / "desk") and sqlite_uri(file) in asked[0]
    assert "MLflow's database as it was published at 2" in said and f"in {machines.copy}" in said
    assert "open one/" in said and "moved or copied" not in said
    names = {
        entry.path
        for entry in MlflowClient(sqlite_uri(file)).list_artifacts(
            sweeps["one"].endings[0].mlflow_run_id
        )
    }
    assert {"samples.png", layout.CONFIG} <= names


def test_a_registered_model_is_found_on_a_machine_that_has_published_nothing(machines, sweeps):
    machines.publisher("w1", sweeps["one"]).finish()
    machines.on("desk")
    assert locate.locate("models:/one", machines.root).trial.chain[-1].kind == "student"


def test_machines_that_publish_in_turn_lose_nothing_of_each_other(machines, sweeps):
    here, there = (
        machines.publisher("w1", sweeps["one"]),
        machines.publisher("w2", sweeps["other"]),
    )
    assert here.attempt() and here.problem == ""
    assert machines.shown() == {"one": RUNS}
    assert there.attempt() and there.problem == ""  # takes over what w1 has published
    here.finish()  # and w1 what w2 has
    there.finish()
    assert (here.problem, there.problem) == ("", "")
    assert machines.shown() == {"one": RUNS, "other": RUNS}
    again = machines.publisher("w3", sweeps["one"])  # the job was lost, and resumes on another node
    again.finish()
    assert machines.shown() == {"one": RUNS, "other": RUNS}


def test_two_processes_of_one_machine_share_its_database(machines, sweeps):
    one, other = (machines.publisher("w1", sweeps[name]) for name in ("one", "other"))
    assert one.attempt() and other.attempt()
    away = machines.publisher("w2", sweeps["other"])
    away.finish()
    other.finish()  # takes over the copy of w2 under the other process
    assert one.attempt() and one.problem == ""
    one.finish()
    assert (one.problem, other.problem, away.problem) == ("", "", "")
    assert machines.shown() == {"one": RUNS, "other": RUNS}


def test_the_copy_is_made_every_few_minutes_and_at_the_end(machines, sweeps):
    publisher = machines.publisher("w1", sweeps["one"])
    publisher.attempt()
    first = machines.version()
    publisher.attempt()
    assert machines.version() == first > 0
    machines.patch.setattr(publishing, "COPY_SECONDS", 0.0)
    publisher.attempt()
    second = machines.version()
    assert second != first
    machines.patch.setattr(publishing, "COPY_SECONDS", 1e9)
    publisher.finish()
    assert machines.version() not in (first, second)
    assert not list(machines.copy.parent.glob("*.tmp"))


def test_who_finds_another_making_the_copy_publishes_here_and_waits_at_the_end(machines, sweeps):
    publisher = machines.publisher("w1", sweeps["one"])
    machines.copy.parent.mkdir(parents=True)
    lease = leases.LeaseWatch(machines.copy.parent).try_take()
    assert lease is not None
    with lease:
        assert publisher.attempt() and publisher.problem == ""
        assert embedded(machines.root).file.exists() and not machines.copy.exists()
        assert not publisher.attempt("FINISHED")
    assert publisher.attempt("FINISHED")
    assert machines.shown() == {"one": RUNS}


def test_a_damaged_copy_is_named_and_left_alone(machines, sweeps, capsys):
    machines.copy.parent.mkdir(parents=True)
    machines.copy.write_bytes(b"no database at all" * 100)
    publisher = machines.publisher("w1", sweeps["one"])
    publisher.attempt()
    assert publisher.problem.startswith(f"{machines.copy}: MLflow's database is damaged")
    assert machines.copy.read_bytes() == b"no database at all" * 100
    machines.patch.setattr(ui.os, "execv", lambda *_: pytest.fail("MLflow was started"))
    assert ui.main(["--storage", str(machines.root)]) == 2
    assert f"error: {machines.copy}: MLflow's database is damaged" in capsys.readouterr().err


def test_a_store_on_a_local_disk_has_no_copy(tmp_path):
    root = Folder(tmp_path / "runs")
    assert fetch(root, embedded(root)) == ""
    assert not root.exists()
