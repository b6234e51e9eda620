"""What the doctor finds: on a real Ray of two nodes, in reports as ill nodes would give them, and
on real sockets."""

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import pytest
from commands import TINY, free_port, own_environment, run, run_here
from ray.cluster_utils import Cluster

from orchestrator.cluster import autoscaler, connection
from orchestrator.cluster.nodes import examination, missing_hosts, node_faults, report
from orchestrator.cluster.nodes.node_faults import Node
from orchestrator.cluster.nodes.report import DRIVER, Probe, Report
from orchestrator.settings import loading
from orchestrator.store.provenance import made_by

HEAD, WORKER = Node("1", "head", "10.0.0.1", 0.0), Node("2", "w1", "10.0.0.2", 1.0)
NAMES = {"head": ["10.0.0.1"], "w1": ["10.0.0.2"]}


def experiment(**blocks):
    return loading.parse({**loading.minimal("doctor"), **blocks})


def healthy() -> Report:
    return Report({**made_by(), "code": report.code()}, NAMES, free=(0.5, 1e11), gpus=1)


def said(worker: Report, **blocks) -> list[str]:
    return [
        str(f)
        for f in node_faults.node_faults(
            {HEAD: healthy(), WORKER: worker}, experiment(**blocks), "x.yaml"
        )
    ]


@pytest.fixture
def two_nodes(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    nodes = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    try:
        nodes.add_node(num_cpus=1)
        yield nodes.address
    finally:
        nodes.shutdown()


@pytest.mark.system
def test_a_sound_cluster_has_no_faults_and_without_the_tracking_server_one_for_the_doctor(
    two_nodes, tmp_path
):
    with patch.dict(os.environ, own_environment(), clear=True):
        connection.connect(two_nodes)
        try:
            found = examination.examine_cluster(
                experiment(storage=str(tmp_path / "runs")), "x.yaml"
            )
            without = {
                "storage": str(tmp_path / "runs"),
                "tracking": {"uri": f"http://127.0.0.1:{free_port()}"},
            }
            # a run does not depend on the tracking server
            examination.check_before_start(experiment(**without), "x.yaml", "")
        finally:
            connection.disconnect()
    assert found.faults == []
    assert len(found.reports) == 2
    assert not (tmp_path / "runs").exists()  # the probe has gone with all that it made
    (tmp_path / "x.yaml").write_text(TINY)
    dead = f"tracking.uri=http://127.0.0.1:{free_port()}"
    refused = run(tmp_path, "doctor", "x.yaml", "--set", dead, "--address", two_nodes)
    assert refused.returncode == 2, refused.stdout + refused.stderr
    assert "tracking.uri: got http://127.0.0.1:" in refused.stderr
    assert "no tracking server answers there: start it" in refused.stderr
    assert not (tmp_path / "runs").exists()


def test_nodes_alike_have_no_faults():
    assert said(healthy()) == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"versions": {**made_by(), "code": report.code(), "torch": "2.0.0"}}, "torch is 2.0.0, on this machine"),
        ({"versions": {**made_by(), "code": "0"}}, "its copy of this project differs from this machine's"),
        ({"addresses": {**NAMES, "w1": ["127.0.1.1"]}}, "the name w1 means 127.0.1.1 there, expected 10.0.0.2: add "
                                                        "'10.0.0.2 w1' to its /etc/hosts"),
        ({"addresses": {"w1": ["10.0.0.2"]}}, "the name head means nothing there, expected 10.0.0.1"),
        ({"free": (0.04, 1e11)}, "its disk has 100.0 GB free, 4 %, expected 5 % and 1 GB: make room"),
        ({"free": (0.5, 5e8)}, "its disk has 0.5 GB free, 50 %"),
        ({"clock": 45.0}, "its clock is 45 s ahead of this machine's"),
        ({"clock": -45.0}, "its clock is 45 s behind this machine's"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_node_is_said_with_its_name_and_the_remedy(change, message):
    (line,) = said(replace(healthy(), **change))
    assert line.startswith(f"node w1 (10.0.0.2): {message}")


def test_all_faults_come_at_once():
    ill = Report({**made_by(), "code": "0", "ray": "2.0.0"}, {}, free=(0.0, 0.0), clock=1e4)
    assert len(said(ill)) == 6


def test_gpus_that_torch_does_not_see_matter_where_they_are_asked_for():
    blind = replace(healthy(), gpus=0)
    assert said(blind) == []
    (line,) = said(blind, cluster={"gpus_per_worker": 1})
    assert line.startswith(
        "x.yaml: cluster.gpus_per_worker: Ray offers 1 GPUs of node w1 (10.0.0.2), torch sees 0"
    )


def test_a_storage_that_the_other_side_does_not_see_is_not_shared(tmp_path, monkeypatch):
    monkeypatch.setattr(report, "SHARED_SECONDS", 0.1)
    mine, elsewhere = (
        Probe(str(tmp_path / "mine"), "abc"),
        Probe(str(tmp_path / "elsewhere"), "abc"),
    )
    for probe in (mine, elsewhere):
        probe.folder.mkdir(parents=True)
    mine.write(DRIVER)
    there = report.examine(WORKER.id, elsewhere, [], gpus=False)
    assert there.storage == "FileNotFoundError: No such file or directory"
    elsewhere.write(DRIVER)  # left there by somebody
    there = report.examine(WORKER.id, elsewhere, [], gpus=False)
    problem = examination.storage_problem(WORKER, mine, there)
    (fault,) = node_faults.storage_faults(
        {HEAD: "", WORKER: problem}, experiment(storage="/data"), "x.yaml"
    )
    assert str(fault) == (
        "x.yaml: storage: got /data, which node w1 (10.0.0.2) does not share (what the node wrote there does not "
        "appear here): give a folder that all nodes mount at the same place, or s3://bucket/prefix"
    )


def test_machines_of_the_cluster_file_that_have_not_joined_are_asked_why(tmp_path, monkeypatch):
    monkeypatch.setattr(autoscaler, "pending_nodes", list)  # no cluster is connected
    file = tmp_path / "bootstrap.yaml"
    file.write_text(
        "provider: {type: local, head_ip: 127.0.0.1, worker_ips: [127.0.0.2]}\n"
        "head_node_type: head\n"
        "available_node_types: {head: {min_workers: 0}, worker: {min_workers: 1}}\n"
    )
    of_ray = file.with_name(
        "local.yaml"
    )  # as Ray writes it down for machines of one's own: the head is no type apart
    of_ray.write_text(
        "provider: {type: local, head_ip: 127.0.0.1, worker_ips: [127.0.0.2]}\n"
        "head_node_type: local.cluster.node\n"
        "available_node_types: {local.cluster.node: {min_workers: 1}}\n"
    )
    assert missing_hosts.not_joined({"127.0.0.1", "127.0.0.2"}, file) == []
    assert missing_hosts.not_joined({"127.0.0.1", "127.0.0.2"}, of_ray) == []
    assert missing_hosts.not_joined({"127.0.0.1"}, Path(tmp_path / "nosuch.yaml")) == []
    monkeypatch.setattr(
        autoscaler, "pending_nodes", lambda: ["127.0.0.2: local.cluster.node, waiting-for-ssh"]
    )
    for written in (file, of_ray):
        with patch.object(missing_hosts, "SSH_PORT", free_port()):
            (fault,) = missing_hosts.not_joined({"127.0.0.1"}, written)
        assert str(fault) == (
            f"{written}: provider.worker_ips: 127.0.0.2 has not joined: no SSH answers there (Connection refused): "
            "start the machine, or take it out of the file"
        )


def test_settings_without_a_file_are_refused(tmp_path):
    refused = run_here(tmp_path, "doctor", "--set", "storage=x")
    assert refused.returncode == 2
    assert "--set overrides a setting of FILE: name one" in refused.stderr


def test_data_that_is_missing_on_this_machine_is_one_of_the_faults(tmp_path):
    here = experiment(data={"name": "cifar10", "root": str(tmp_path)})
    (fault,) = examination._data_faults({}, {here.data: ""}, "x.yaml")
    assert str(fault).startswith("x.yaml: data: ") and str(tmp_path) in str(fault)
    assert list(examination._data_faults({}, {here.data: "read before"}, "x.yaml")) == []
