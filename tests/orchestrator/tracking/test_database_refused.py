"""`python -m orchestrator.ui` on a database that cannot be written or read: one line, status 2,
nothing is opened."""

import shutil
import sqlite3

import pytest

from orchestrator import ui
from orchestrator.fields.faults import ConfigError
from orchestrator.tracking import database

OPEN = sqlite3.connect


@pytest.fixture
def copied(fabricated_sweep, tmp_path, monkeypatch):
    """A copy of a published store, whose database names the place of the original."""
    monkeypatch.setattr(ui.os, "execv", lambda *_: pytest.fail("MLflow was started"))
    monkeypatch.setattr(ui, "listener", lambda port: "")
    return shutil.copytree(fabricated_sweep.store.root, tmp_path / "copy")


def refused(store, capsys):
    assert ui.main(["--storage", str(store)]) == 2
    said = capsys.readouterr()
    assert said.err.startswith(f"error: {store / 'mlflow.db'}: ") and said.err.count("\n") == 1
    return said.err


def test_a_database_that_may_only_be_read(copied, capsys, monkeypatch):
    def read_only(file, **how):
        return OPEN(f"file:{file}?mode=ro", uri=True, **how)

    monkeypatch.setattr(database.sqlite3, "connect", read_only)
    said = refused(copied, capsys)
    assert (
        "MLflow's database cannot be written (attempt to write a readonly database): make it and its folder"
        in said
    )


@pytest.mark.parametrize(
    "content", [b"no database at all" * 100, b"SQLite format 3\0" + bytes(5000)]
)
def test_a_damaged_database(copied, content, capsys):
    (copied / "mlflow.db").write_bytes(content)
    said = refused(copied, capsys)
    assert (
        "MLflow's database is damaged, or not a database (" in said
        and ".damaged, then " in said
        and "--publish" in said
    )


def test_a_database_that_others_write(copied, monkeypatch):
    monkeypatch.setattr(database, "BUSY_SECONDS", 0.1)
    with OPEN(copied / "mlflow.db") as other:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(ConfigError, match="another process is writing to MLflow's database"):
            database.relocate_artifacts(copied / "mlflow.db")
