"""`doctor --slurm` on a login node: what is wrong with Slurm, and with what one of its nodes sees."""

import json
import shutil
import sys
from pathlib import Path

from commands import TINY
from hosts import ADDRESSES
from slurm_lab import BRIEF, LOGIN, MAIN, SlurmLab

WORDS = ("doctor.yaml", "--slurm")


def write(lab: SlurmLab) -> None:
    (lab.work / "doctor.yaml").write_text(TINY)


def left(lab: SlurmLab) -> list[Path]:
    """What the doctor has left behind."""
    hidden = [*lab.home.glob(".kacflow-*"), *lab.work.glob(".room-*"), *lab.work.glob("runs")]
    return hidden + [
        Path(line) for line in lab.user("squeue", "-h", "-o", "%j").split() if "doc" in line
    ]


def test_where_all_is_well_a_node_has_answered_and_nothing_is_left(lab: SlurmLab):
    write(lab)
    said = lab.python("doctor", *WORDS)
    assert "partition main: 2 nodes, 2 CPUs each, at most 1-00:00:00 at a time" in said
    assert any(f"node {name} answered, of partition main" in said for name in MAIN)
    assert said.endswith("all is well")
    found = json.loads(lab.python("doctor", *WORDS, "--json"))
    assert found["well"] and found["faults"] == []
    (row,) = found["nodes"]
    assert row["address"] == ADDRESSES[row["host"]] and row["host"] in MAIN
    assert row["python"] == ".".join(map(str, sys.version_info[:3]))
    assert left(lab) == []


def test_all_that_a_node_does_not_see_is_said_at_once(lab: SlurmLab):
    write(lab)
    with lab.hidden(BRIEF, lab.home):
        said = lab.python("doctor", *WORDS, "--partition", "brief", status=2)
    for line in (
        "partition brief: its time limit is 0:03:00, and 120 s before the limit a sweep stops",
        f"node {BRIEF}: it does not see the home of this machine, {lab.home}: keep the environment",
        f"node {BRIEF}: it does not see this folder, {lab.work}: run the sweep from a folder that nodes share",
        f"storage: got runs, which node {BRIEF} ({ADDRESSES[BRIEF]}) does not share",
    ):
        assert line in said, said
    assert left(lab) == []


def test_an_environment_that_nodes_do_not_see_is_named(lab: SlurmLab):
    write(lab)
    with lab.hidden(BRIEF, Path(sys.prefix) / "bin"):
        said = lab.python("doctor", *WORDS, "--partition", "brief", status=2)
    assert (
        f"node {BRIEF}: it does not see this Python, {sys.executable}: make the environment" in said
    )
    assert left(lab) == []


def test_a_full_quota_is_found_by_writing(lab: SlurmLab):
    write(lab)
    with lab.full((LOGIN,), lab.work / "small", room="5M"):
        words = ("--set", f"storage={lab.work / 'small' / 'runs'}", "--partition", "nowhere")
        said = lab.python("doctor", *WORDS, *words, status=2)
    assert f"storage: {lab.work / 'small'} has no room for 64 MB" in said
    assert "--partition: got nowhere, expected one of main, urgent, apart, brief, closed" in said
    shutil.rmtree(lab.work / "small")


def test_a_node_that_is_not_free_is_not_waited_for(lab: SlurmLab):
    write(lab)
    job = lab.user(
        "sbatch",
        "--parsable",
        "--partition=brief",
        "--exclusive",
        "--output=/dev/null",
        "--wrap=sleep 170",
    )
    try:
        lab.wait_for(lambda: lab.state(job) == "RUNNING")
        said = lab.python("doctor", *WORDS, "--partition", "brief", status=2)
    finally:
        lab.user("scancel", job)
    assert (
        "slurm: no node of partition brief was free within 20 s, so what a node sees was not checked"
        in said
    )
    assert left(lab) == []
    lab.wait_for(lambda: lab.node_state(BRIEF) == "idle")


def test_a_node_without_munge_is_found(lab: SlurmLab):
    write(lab)
    try:
        with lab.hidden(BRIEF, "/run/munge"):
            said = lab.python("doctor", *WORDS, "--partition", "brief", status=2)
        assert "slurm: it cannot run a job on a node of partition brief: " in said, said
        assert "most often munge does not run there, or has another key: ask the admin" in said
        lab.wait_for(lambda: left(lab) == [])
    finally:
        lab.wait_for(lambda: lab.node_state(BRIEF) == "idle")


def test_a_login_node_without_munge_is_found(lab: SlurmLab):
    write(lab)
    with lab.hidden(LOGIN, "/run/munge"):
        said = lab.python("doctor", *WORDS, status=2)
    assert "slurm: it does not answer: " in said and "most often munge does not run" in said
