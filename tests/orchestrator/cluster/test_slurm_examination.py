"""What can be examined for Slurm without one. With a Slurm: tests/slurm."""

import errno
import json
import os
import socket
from dataclasses import asdict
from pathlib import Path

import pytest

from orchestrator import doctor
from orchestrator.cluster.nodes.report import DRIVER, Probe, Report
from orchestrator.cluster.slurm import examination, on_node, scheduler, script
from orchestrator.cluster.slurm.on_node import Request
from orchestrator.cluster.slurm.scheduler import Partition
from orchestrator.settings import loading


def experiment(**blocks):
    return loading.parse({**loading.minimal("doctor"), **blocks})


@pytest.mark.parametrize(
    ("change", "blocks", "message"),
    [
        ({}, {}, None),
        ({"minutes": None}, {}, None),
        ({}, {"cluster": {"cpus_per_worker": 9}}, "x.yaml: cluster.cpus_per_worker: got 9, but nodes of partition p"),
        ({}, {"cluster": {"gpus_per_worker": 1}}, "x.yaml: cluster.gpus_per_worker: got 1, but nodes of partition p"),
        ({"minutes": 4}, {}, "partition p: its time limit is 0:04:00, and 120 s before the limit"),
    ],
)  # fmt: skip
def test_a_partition_that_cannot_run_the_experiment_is_named(change, blocks, message):
    partition = Partition(**{**asdict(Partition("p", True, 2, 8, 0, 60)), **change})
    said = [str(f) for f in examination.partition_faults(partition, experiment(**blocks), "x.yaml")]
    assert said == [] if message is None else said[0].startswith(message)


def test_a_node_answers_with_what_it_sees(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    probe = Probe(str(tmp_path / "runs"), "abc")
    probe.folder.mkdir(parents=True)
    probe.write(DRIVER)
    (tmp_path / "token").touch()
    request = Request(probe.storage, probe.id, str(tmp_path / "token"), str(tmp_path), gpus=False)
    assert on_node.main([json.dumps(asdict(request))]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["host"] == socket.gethostname()
    assert answer["home"] and answer["folder"] and answer["ports"] == [] and answer["cuda"] == ""
    report = Report(**answer["report"])
    assert report.storage == "" and probe.read(answer["host"]) == "abc"
    assert list(examination._faults_of(answer, 0, report, "x.yaml")) == []


def test_what_a_node_lacks_is_said_with_the_remedy():
    answer = {"host": "w1", "home": False, "folder": False, "ports": [20004], "cuda": "old driver"}
    said = [str(f) for f in examination._faults_of(answer, 1, Report({"torch": "2.0"}), "x.yaml")]
    assert [line.partition(":")[0] for line in said] == ["node w1"] * 4
    assert said[2].startswith("node w1: the ports of Ray are in use there, 20004: ")
    assert said[3].startswith("node w1: torch 2.0 cannot use its GPUs (old driver): install torch")
    (line,) = examination._faults_of(
        {"host": "w1", "home": True, "folder": True, "ports": [], "cuda": ""},
        2,
        Report({}, gpus=1),
        "x.yaml",
    )
    assert str(line).startswith(
        "x.yaml: cluster.gpus_per_worker: torch sees 1 of 2 GPUs that Slurm gives on node w1"
    )


def test_a_port_that_another_process_listens_on_is_taken():
    with socket.socket() as other:
        other.bind(("", 0))
        other.listen()
        port = other.getsockname()[1]
        assert port in on_node.taken(port) and port not in on_node.taken(port + 1)


def test_the_ports_are_those_of_the_script():
    text = script.render("x", "x.yaml", Path("/home"), "/home/runs", script.Allocation(1, 1, 0, 60))
    (line,) = [line for line in text.splitlines() if line.startswith("port=")]
    first, step, many = script.FIRST_PORT, 4, script.PORTS
    assert line == f"port=$(({first} + {step} * SLURM_JOB_ID % {many}))"
    assert script.first_port(6000) == first + 4000


def test_a_disk_without_room_is_found_by_writing_and_nothing_stays(tmp_path, monkeypatch):
    assert list(examination._full(tmp_path, "x.yaml", "storage")) == []
    assert list(tmp_path.iterdir()) == []

    def over_quota(file: int) -> None:
        raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))

    monkeypatch.setattr(examination.os, "fsync", over_quota)  # where a quota of NFS shows
    (fault,) = examination._full(tmp_path, "x.yaml", "storage")
    assert str(fault).startswith(f"x.yaml: storage: {tmp_path} has no room for 64 MB: ")
    assert list(tmp_path.iterdir()) == []


def test_without_slurm_the_login_node_is_asked_for(monkeypatch, capsys):
    monkeypatch.setattr(scheduler, "available", lambda: False)
    assert doctor.main(["--slurm"]) == 2
    assert "--slurm: this machine has no sbatch: run it on a login node" in capsys.readouterr().err
    assert doctor.main(["--slurm", "--json"]) == 2
    found = json.loads(capsys.readouterr().out)
    assert not found["well"] and found["nodes"] == [] and len(found["faults"]) == 1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--slurm", "--address", "auto"], "--slurm checks Slurm, and --address a Ray cluster"),
        (["--partition", "main"], "--partition is one of Slurm's: give --slurm too"),
    ],
)
def test_words_that_do_not_go_together_are_refused(capsys, words, message):
    with pytest.raises(SystemExit) as ended:
        doctor.main(words)
    assert ended.value.code == 2 and message in capsys.readouterr().err
