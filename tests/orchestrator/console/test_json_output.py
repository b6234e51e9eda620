"""`--json` of dry runs, status and the doctor."""

import json

import fabricated
import pytest
from commands import TINY

from orchestrator import doctor, status, sweep

SWEEP = "sweep: {space: {sampling.steps: {grid: [2, 4]}, sampling.guidance: {grid: [1.0, 2.0]}}}\n"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    (tmp_path / "x.yaml").write_text(TINY + SWEEP)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_dry_run_is_one_json_object(folder, capsys):
    assert sweep.main(["x.yaml", "--dry-run", "--json", "--set", "teacher.steps=7"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [trial["settings"]["sampling.steps"] for trial in found["trials"]] == [2, 4]
    assert found["sweep"].startswith("tiny/") and found["left_out"]
    stages = {stage["key"]: stage for stage in found["stages"]}
    assert {key for trial in found["trials"] for key in trial["stages"]} == set(stages)
    (teacher,) = (stage for stage in stages.values() if stage["kind"] == "teacher")
    assert (teacher["training_steps"], teacher["state"]) == (7, "to do")
    assert found["estimate"]["seconds"] > 0
    assert not (folder / "runs").exists()


def test_json_of_a_part(folder, capsys):
    assert sweep.main(["x.yaml", "--dry-run", "--json", "--only", "sampling.steps=4"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [trial["trial"] for trial in found["trials"]] == [1]


def test_json_of_a_run_is_refused(folder, capsys):
    with pytest.raises(SystemExit) as ended:
        sweep.main(["x.yaml", "--json"])
    assert ended.value.code == 2 and "give --dry-run too" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        status.main(["--json", "--watch"])


def test_status_of_a_sweep_and_of_all(tmp_path, capsys):
    records = fabricated.sweep(tmp_path / "runs")
    records.save()
    storage = ["--storage", str(records.store.root)]
    assert status.main(["fabricated", "--json", *storage]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["state"] == "done" and found["sweep"] == f"fabricated/{records.plan.id}"
    assert [trial["measures"]["fid"] for trial in found["trials"]] == [
        records.measured(trial)["fid"] for trial in records.plan.trials
    ]
    assert {stage["state"] for stage in found["stages"]} == {"done"}
    assert found["verdict"][0].startswith("fid on ")
    assert status.main(["--json", *storage]) == 0
    (row,) = json.loads(capsys.readouterr().out)["sweeps"]
    assert (row["sweep"], row["trials"], row["done"]) == (found["sweep"], 3, 3)


def test_the_doctor_says_faults_with_their_parts(folder, capsys):
    (folder / "bad.yaml").write_text(TINY + "nane: y\n")
    assert doctor.main(["bad.yaml", "--json"]) == 2
    found = json.loads(capsys.readouterr().out)
    assert not found["well"]
    assert found["faults"][0]["source"] == "bad.yaml" and found["faults"][0]["key"] == "nane"


@pytest.mark.system
def test_the_doctor_of_this_machine(folder, capsys):
    assert doctor.main(["x.yaml", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["well"] and found["faults"] == [] and len(found["nodes"]) == 1
    assert found["nodes"][0]["disk_free_bytes"] > 0
    assert any(line.startswith("CPUs") for line in found["limits"])
