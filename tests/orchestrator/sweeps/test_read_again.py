"""A finished sweep is read on a machine that has the store and not the data, by a later version of
the code."""

import csv
import io
import json
import shutil
from pathlib import Path

import fabricated
import numpy as np
import pytest
from PIL import Image

from orchestrator import export, report, sample, stages, status
from orchestrator.networks import locate
from orchestrator.networks.playground import Playground
from orchestrator.plan import stage
from orchestrator.plan.data import by_name
from orchestrator.plan.plan import Facts, alike, make
from orchestrator.settings.loading import parse
from orchestrator.status import Followed
from orchestrator.store.folder import Folder
from orchestrator.store.store import Store
from orchestrator.sweeps import inventory
from orchestrator.sweeps.records import Records


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The storage of a finished sweep over two paths, whose images have since been deleted."""
    root = tmp_path_factory.mktemp("again")
    for name, colour in (("cat", (90, 80, 160)), ("dog", (10, 200, 30))):
        (root / "images" / name).mkdir(parents=True)
        for k in range(3):
            Image.new("RGB", (16, 16), colour).save(root / "images" / name / f"{k}.png")
    space = {
        "path.damping": {"grid": [9.0, 25.0]},
        "sampling.model": {"grid": ["teacher", "student"]},
    }
    data = {
        "name": "folder",
        "root": str(root / "images"),
        "size": 16,
        "cache": str(root / "cache"),
    }
    asked = fabricated.experiment("again", data=data, sampling={"steps": 2}, sweep={"space": space})
    fabricated.sweep(root / "runs", asked)
    shutil.rmtree(root / "images")
    shutil.rmtree(root / "cache", ignore_errors=True)
    return root / "runs"


@pytest.fixture(params=["today", "later"])
def version(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Of the code: today's, or one that gives every stage another key."""
    if request.param == "later":
        for kind in stage.FORMAT:
            monkeypatch.setitem(stage.FORMAT, kind, 99)
    return request.param


def test_status_tells_its_state_and_what_its_stages_are_called(store, version, capsys):
    assert status.main(["again", "--storage", str(store)]) == 0
    said = capsys.readouterr().out
    assert (
        "4 of 4 trials  done" in said
        and "teacher, damping 9" in said
        and "student 2, damping 25" in said
    )
    assert status.main(["--storage", str(store)]) == 0
    assert "fid 1" in capsys.readouterr().out


@pytest.mark.parametrize("named", ["name", "name/id", "folder"])
def test_its_report_is_made_again(store, version, named, capsys):
    (folder,) = (store / "sweeps" / "again").iterdir()
    (folder / "report.html").unlink(missing_ok=True)
    text = {"name": "again", "name/id": f"again/{folder.name}", "folder": str(folder)}[named]
    where = [] if named == "folder" else ["--storage", str(store)]
    assert report.main([text, *where]) == 0, capsys.readouterr().err
    assert "<h1>again</h1>" in (folder / "report.html").read_text()
    rows = list(csv.DictReader(io.StringIO((folder / "results.csv").read_text())))
    assert [row["fid"] for row in rows] == ["1.0", "3.0"] * 2


def test_its_networks_are_sampled_exported_and_played_with(store, version, tmp_path, capsys):
    text = ["again", "--storage", str(store)]
    arguments = ["--count", "3", "--labels", "dog,cat", "--out", str(tmp_path / "x.npz")]
    assert sample.main([*text, *arguments]) == 0, capsys.readouterr().err
    said = capsys.readouterr().out
    assert "student (endpoint), 2 steps" in said and ": student 2, damping 9, stage " in said
    with np.load(tmp_path / "x.npz") as file:
        assert file["images"].shape == (3, 16, 16, 3) and file["labels"].tolist() == [1, 0, 1]
    assert export.main([*text, "--format", "safetensors", "--out", str(tmp_path / "x")]) == 0
    source = locate.locate("again", Folder(store))
    playing = Playground(source, source.config, text)
    answer = playing.draw({"labels": ["dog"], "count": 1})
    assert answer["classes"] == ["dog"] and answer["network"] == "student 2, damping 9"
    assert playing.choices()["origin"].startswith("trial 1 of again/")


def test_the_list_of_the_store_calls_its_stages_as_the_sweep_does(store, version, capsys):
    names = {entry.name for entry in inventory.stored_stages(Folder(store))}
    assert {"teacher, damping 9", "student 2, damping 25", "reference"} <= names
    assert stages.main(["--storage", str(store), "list"]) == 0
    assert "teacher, damping 25" in capsys.readouterr().out


@pytest.mark.parametrize("command", [report, status])
def test_a_sweep_that_is_not_there_is_refused_with_those_that_are(store, capsys, command):
    assert command.main(["agian", "--storage", str(store)]) == 2
    said = capsys.readouterr().err
    assert f"nor a sweep of {store}, which has: again; expected a sweep as name" in said
    assert "MLflow" not in said


def growing(root: Path) -> Records:
    """A sweep that draws its points, none of them yet."""
    sweep = {"search": "optuna", "num_trials": 9, "space": {"path.damping": {"uniform": [1, 90]}}}
    base = {
        "data": {"name": "digits"},
        "path": {"kind": "kac"},
        "sampling": {"model": "teacher", "steps": 2},
    }
    asked = parse({"name": "growing", **base, "sweep": sweep})
    records = Records(make(asked, alike("fingerprint", "digits-cnn-v1")), Store(root))
    records.open()
    return records


def test_who_follows_a_sweep_reads_its_plan_again_only_where_it_was_written(tmp_path, monkeypatch):
    records = growing(tmp_path)
    followed = Followed(records.folder)
    read = list[str]()
    asked = list[str]()
    text, exists = Folder.read_text, Folder.exists

    def read_text(self: Folder, *arguments: str) -> str:
        read.append(self.name)
        return text(self, *arguments)

    def exists_too(self: Folder) -> bool:
        asked.append(str(self))
        return exists(self)

    for index in range(3):
        records.grow()
        assert len(followed.refresh().plan.trials) == index + 1
        records.end(index, "failed", "teacher: loss is nan")
        records.save()
        assert followed.refresh().endings[index].status == "failed"
    followed.refresh()
    monkeypatch.setattr(Folder, "read_text", read_text)
    for _ in range(3):
        followed.refresh()
    assert read == ["trials.json"] * 3
    trial = records.plan.trials[0]
    fabricated.finish(records.store, trial.evaluation)
    monkeypatch.setattr(Folder, "exists", exists_too)
    assert followed.refresh().endings[0].status == "done"
    records.grow()
    asked.clear()
    assert followed.refresh().endings[0].status == "done" and len(followed.records.plan.trials) == 4
    assert [path for path in asked if trial.key in path] == []
    assert records.store.set_aside(trial.evaluation, "x is damaged")
    assert followed.refresh().endings[0].status != "done"
    assert followed.records.measured(trial) == {}


def test_a_failure_names_the_stage_as_the_sweep_does(tmp_path):
    space = {"path.damping": {"grid": [9.0, 25.0]}, "sampling.steps": {"grid": [20, 4]}}
    grid = {"space": space}
    asked = parse(
        {"name": "failed", "data": {"name": "digits"}, "path": {"kind": "kac"}, "sweep": grid}
    )
    records = Records(
        make(asked, lambda c: Facts(by_name(c.data, "fingerprint"), "digits-cnn-v1")),
        Store(tmp_path),
    )
    records.open()
    for index, (error, named) in enumerate([
        ("teacher: out of memory: less", "teacher, damping 9: out of memory: less"),
        ("student 4: its process was killed", "student 4, damping 9: its process was killed"),
        ("reference: no such file", "reference: no such file"),
        ("the disk is full", "the disk is full"),
    ]):  # fmt: skip
        records.end(index, "failed", error)
        assert records.endings[index].error == named
    records.save()
    assert "teacher, damping 9: out of memory" in json.dumps(
        json.loads((records.folder / "trials.json").read_text())
    )


def test_stages_that_no_setting_tells_apart_are_called_by_their_first_trial():
    space = {"distill.intervals": {"grid": [[20, 4], [100, 4], [20, 4, 2]]}}
    asked = parse(
        {
            "name": "x",
            "data": {"name": "digits"},
            "path": {"kind": "kac"},
            "sweep": {"space": space},
        }
    )
    plan = make(asked, alike("fingerprint", "digits-cnn-v1"))
    names = sorted(name for name in plan.names.values() if name.startswith("student 4 of"))
    assert names == ["student 4 of trial 0", "student 4 of trial 1"]
    assert len(set(plan.names.values())) == len(plan.names)
