"""The embedded database of a store that was moved, copied, called oddly, or written by another
version of MLflow."""

import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import mlflow.artifacts
import pytest
from alembic import command as alembic
from commands import everything_below
from fabricated import client_of
from mlflow.store.db.utils import (
    _get_alembic_config,
    _get_latest_schema_revision,
    create_sqlalchemy_engine,
)
from mlflow.tracking._tracking_service.utils import _artifact_repos_cache

from orchestrator.fields.faults import ConfigError
from orchestrator.networks import mlflow_lookup
from orchestrator.store.folder import Folder
from orchestrator.sweeps import opening
from orchestrator.sweeps.records import Records
from orchestrator.tracking import database as mlflow_database
from orchestrator.tracking.client import connect
from orchestrator.tracking.publisher import Publisher
from orchestrator.tracking.uri import SPECIAL, absolute, sqlite_file, sqlite_uri

ODD = ["my runs", "a%20b", "what?", "no#1", "größe", "-runs", 'it\'s "here"', "%3f?#& é"]


def records_below(root: Path) -> Records:
    (plan,) = root.glob("sweeps/*/*/plan.json")
    return opening.records_of(plan.parent)


@pytest.fixture
def copy(fabricated_sweep: Records, tmp_path: Path) -> Path:
    """A copy of a published store, database and artifacts included."""
    return shutil.copytree(fabricated_sweep.store.root, tmp_path / "copy")


def publish(records: Records) -> list[str]:
    """Publish as a process of its own does; returns what is said."""
    _artifact_repos_cache.clear()  # where this one has seen the artifacts of runs of the same ids
    said: list[str] = []
    publisher = Publisher(records, said.append)
    publisher.finish("FINISHED")
    assert publisher.problem == ""
    return said


def addresses(records: Records) -> list[str]:
    """Where MLflow says that artifacts are: of the experiment, of every run and of the registered
    model."""
    client, name = client_of(records), records.plan.experiment.name
    experiment = client.get_experiment_by_name(name)
    runs = client.search_runs([experiment.experiment_id])
    version = client.get_model_version(name, "1")
    return [experiment.artifact_location, *(run.info.artifact_uri for run in runs), version.source,
            client.get_model_version_download_uri(name, "1")]  # fmt: skip


def everything_is_loaded_from(root: Path, tmp_path: Path) -> None:
    """What MLflow says of the store under `root` lies there, the pictures and the model can be
    loaded, and what was logged last is what the sweep's folder has."""
    records = records_below(root)
    assert {a.startswith((root / "mlartifacts").as_uri() + "/") for a in addresses(records)} == {
        True
    }
    client, name = client_of(records), records.plan.experiment.name
    for run in client.search_runs([client.get_experiment_by_name(name).experiment_id]):
        wanted = {"trial": "samples.png", "sweep": "results.csv"}.get(run.data.tags["kind"])
        if wanted:
            logged_file = Path(client.download_artifacts(run.info.run_id, wanted)).read_bytes()
            if wanted == "results.csv":
                assert logged_file == (records.folder / "results.csv").read_bytes()
    uri = sqlite_uri(records.store.root / "mlflow.db")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", uri)
        model = mlflow.artifacts.download_artifacts(
            f"models:/{name}/1", dst_path=str(tmp_path / "model")
        )
    assert (Path(model) / "MLmodel").is_file()


def test_what_is_published_into_a_copy_leaves_the_original_as_it_was(
    fabricated_sweep, copy, tmp_path
):
    before = everything_below(fabricated_sweep.store.root)
    records = records_below(copy)
    (records.folder / "results.csv").write_text("another\n")
    said = publish(records)
    assert (
        [line for line in said if "its artifacts are now read from the folder next to it" in line]
        == said
        != []
    )
    assert str(fabricated_sweep.store.root) in said[0] and str(copy / "mlflow.db") in said[0]
    assert everything_below(fabricated_sweep.store.root) == before
    everything_is_loaded_from(copy, tmp_path)
    assert publish(records_below(copy)) == []  # once is enough


def test_a_store_that_was_moved_is_published_where_it_is_and_its_old_place_stays_away(
    copy, tmp_path
):
    publish(records_below(copy))
    moved = copy.rename(tmp_path / "moved to")
    (said,) = publish(records_below(moved))
    assert str(copy) in said
    assert not copy.exists()
    everything_is_loaded_from(moved, tmp_path)


def test_a_store_that_is_reached_by_another_name_is_no_moved_one(copy, tmp_path):
    publish(records_below(copy))
    (tmp_path / "link").symlink_to(copy)
    before = addresses(records_below(copy))
    assert publish(records_below(tmp_path / "link")) == []
    assert addresses(records_below(copy)) == before


def test_a_database_that_came_without_its_artifacts_says_so(copy):
    shutil.rmtree(copy / "mlartifacts")
    _, said = mlflow_database.relocate_artifacts(copy / "mlflow.db")
    assert (
        said.startswith("the artifacts of fabricated are not in ")
        and "publish its sweeps again" in said
    )


def test_what_others_have_put_into_the_database_stays_where_they_have_it(copy):
    client = connect(sqlite_uri(copy / "mlflow.db"), print)
    theirs = client.create_experiment("theirs", artifact_location="file:///elsewhere/mlartifacts/7")
    mlflow_database.relocate_artifacts(copy / "mlflow.db")
    assert client.get_experiment(theirs).artifact_location == "file:///elsewhere/mlartifacts/7"


@pytest.mark.parametrize("name", ODD)
def test_a_file_of_any_name_is_reached_by_its_address_and_no_other_is_made(
    name, copy, tmp_path, monkeypatch
):
    root = copy.rename(tmp_path / name)
    monkeypatch.chdir(tmp_path)
    before = {p.name for p in tmp_path.iterdir()}
    for file in (root / "mlflow.db", Path(name) / "mlflow.db"):
        assert sqlite_file(sqlite_uri(file)) == file
    publish(records_below(root))
    everything_is_loaded_from(root, tmp_path)
    assert {p.name for p in tmp_path.iterdir()} - before == {"model"}
    (run, *_) = client_of(records_below(root)).search_runs(["1"], "tags.kind = 'trial'")
    assert (
        mlflow_lookup.find_run(run.info.run_id, Folder(root), None).sweep_id
        == run.data.tags["sweep_id"]
    )


def test_a_relative_address_means_the_file_of_the_folder_in_which_the_process_is(
    tmp_path, monkeypatch
):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        monkeypatch.chdir(tmp_path / name)
        client = connect("sqlite:///mlflow.db", print)
        assert [e.name for e in client.search_experiments()] == ["Default"]
        client.create_experiment(f"of {name}", artifact_location=str(tmp_path / name))
    assert absolute("sqlite:///runs%20x.db") == f"sqlite:///{tmp_path}/two/runs x.db"
    for whole in (
        "sqlite:////runs/mlflow.db",
        "http://127.0.0.1:5000",
        "postgresql://host/base",
        "mlruns",
    ):
        assert absolute(whole) == whole


def test_addresses_that_people_write_stay_as_they_are():
    for text in ("runs/mlflow.db", "/home/jürgen/my runs/mlflow.db"):
        assert not SPECIAL & set(text)
        assert sqlite_uri(Path(text)) == f"sqlite:///{text}"


@contextmanager
def rewritten(file: Path) -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(file)) as database, database:
        yield database


def revision(file: Path) -> str:
    with rewritten(file) as database:
        return str(database.execute("SELECT version_num FROM alembic_version").fetchone()[0])


@pytest.fixture
def older(copy: Path) -> Path:
    """The store with the tables of an MLflow six revisions ago, by MLflow's own way back."""
    engine = create_sqlalchemy_engine(sqlite_uri(copy / "mlflow.db"))
    with engine.begin() as connection:
        config = _get_alembic_config(str(engine.url))
        config.attributes["connection"] = connection
        alembic.downgrade(config, "-6")
    engine.dispose()
    assert revision(copy / "mlflow.db") != _get_latest_schema_revision()
    return copy


def test_an_older_database_is_upgraded_said_and_kept_as_it_was(older, tmp_path, capfd):
    file = older / "mlflow.db"
    before, found = file.read_bytes(), revision(file)
    upgraded, followed = publish(records_below(older))
    backup = file.with_name(f"mlflow.db.backup-{found}")
    assert (
        f"upgraded from an older MLflow's tables ({found})" in upgraded and str(backup) in upgraded
    )
    assert "read from the folder next to it" in followed
    assert backup.read_bytes() == before
    assert revision(file) == _get_latest_schema_revision()
    everything_is_loaded_from(older, tmp_path)
    assert {p.name for p in older.glob("*mlflow.db*")} == {"mlflow.db", backup.name}
    assert capfd.readouterr().err == ""


def test_a_backup_that_is_there_already_is_not_written_over(older):
    file = older / "mlflow.db"
    first = file.with_name(f"mlflow.db.backup-{revision(file)}")
    first.write_text("the first")
    mlflow_database.create_or_upgrade(file)
    assert first.read_text() == "the first"
    assert first.with_name(f"{first.name}.2").stat().st_size > 0


def test_an_upgrade_that_fails_leaves_the_database_as_it_was(older):
    file = older / "mlflow.db"
    with rewritten(file) as database:  # a step is to be done that has been done already
        database.execute("UPDATE alembic_version SET version_num = '89d4b8295536'")
    before = everything_below(older)
    with pytest.raises(Exception, match="already exists"):
        mlflow_database.create_or_upgrade(file)
    assert everything_below(older) == before


@pytest.mark.parametrize("writer", ["99.1.0", None])
def test_a_newer_database_is_refused_with_both_versions_and_what_to_do(copy, writer):
    file = copy / "mlflow.db"
    with rewritten(file) as database:
        database.execute("UPDATE alembic_version SET version_num = 'fffffffffff0'")
        if writer:
            database.execute("UPDATE tags SET value = ? WHERE key = 'mlflow_version'", (writer,))
    before = everything_below(copy)
    with pytest.raises(ConfigError) as refused:
        mlflow_database.create_or_upgrade(file)
    said = str(refused.value)
    assert (
        f"newer MLflow {writer} (fffffffffff0)" in said
        if writer
        else "newer MLflow (fffffffffff0)" in said
    )
    assert f"{mlflow.__version__} ({_get_latest_schema_revision()})" in said
    assert (
        f"-m pip install --upgrade mlflow{f'=={writer}' if writer else ''}" in said
        and f"mv {file} " in said
    )
    publisher = Publisher(records_below(copy))
    publisher.finish("FINISHED")
    assert publisher.problem == said
    after = everything_below(copy)
    assert {k: v for k, v in after.items() if "lease" not in k} == {
        k: v for k, v in before.items() if "lease" not in k
    }
