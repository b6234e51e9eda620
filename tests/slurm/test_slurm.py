"""Sweeps on Slurm, by the batch script that the command `slurm` writes."""

import shutil
import subprocess
import sys

from commands import PATIENCE, TINY
from slurm_lab import SlurmLab

STORE = ("--set", "storage=alone")  # of the same sweep on one machine
SWEEP = "sweep: {max_concurrent_trials: 2, space: {sampling.steps: {grid: [2, 4]}}}\n"


def write(lab: SlurmLab, name: str, text: str) -> None:
    shutil.rmtree(lab.work / "runs", ignore_errors=True)
    shutil.rmtree(lab.work / "alone", ignore_errors=True)
    (lab.work / f"{name}.yaml").write_text(text.replace("name: tiny", f"name: {name}"))


def test_a_sweep_runs_on_two_nodes_and_gives_the_results_of_one_machine(lab: SlurmLab):
    write(lab, "two", TINY + "cluster: {workers: 2}\n" + SWEEP)
    lab.python("sweep", "two.yaml", *STORE)
    job = lab.submitted("two.yaml", "--nodes", "2", "--cpus-per-node", "2", "--time", "20")
    said = lab.python("status", "two", "--storage", str(lab.work / "runs"))
    assert f"Slurm job {job}, two/" in said and ("RUNNING on w[1-2]" in said or "PENDING (" in said)
    assert lab.wait_for_end(job) == "COMPLETED", lab.about()
    said = (lab.work / f"two-{job}.log").read_text()
    assert "verdict   fid on digits-cnn-v1" in said
    assert lab.weights(lab.work / "runs") == lab.weights(lab.work / "alone") != {}
    assert lab.processes() == []


def test_at_the_time_limit_a_training_is_saved_and_the_job_resumes_in_the_next_allocation(
    lab: SlurmLab,
):
    """Minutes: Slurm's signal comes two to three minutes before a time limit, and the shortest one
    that leaves time for a training is of four."""
    long = TINY.replace("steps: 20,", "steps: 6000,").replace("{steps: 10}", "{steps: 100}")
    write(lab, "limit", long)
    alone = subprocess.Popen(
        lab.user_command(sys.executable, "-m", "orchestrator.sweep", "limit.yaml", *STORE),
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    job = lab.submitted("limit.yaml", "--cpus-per-node", "1", "--time", "4")
    assert lab.wait_for_end(job) == "COMPLETED", lab.about()
    said = (lab.work / f"limit-{job}.log").read_text()
    assert said.count("continues in the next allocation") == int(lab.job(job)["Restarts"]) >= 1
    assert "the same command resumes" in said
    assert said.count("verdict   fid on digits-cnn-v1") == 1
    assert alone.wait(PATIENCE) == 0
    assert lab.weights(lab.work / "runs") == lab.weights(lab.work / "alone") != {}
    assert lab.processes() == []


def test_what_slurm_would_refuse_is_refused_before_anything_is_written(lab: SlurmLab):
    write(lab, "bad", TINY + SWEEP)
    words = [
        "bad.yaml",
        "--nodes",
        "4",
        "--cpus-per-node",
        "3",
        "--gpus-per-node",
        "1",
        "--time",
        "2-0",
    ]
    said = lab.python("slurm", *words, "--submit", status=2)
    for line in (
        "--nodes: got 4, but partition main has 3",
        "--cpus-per-node: got 3, but nodes of partition main have 2",
        "--gpus-per-node: got 1, but nodes of partition main have 0",
        "--time: got 2-00:00:00, but the time limit of partition main is 1-00:00:00",
    ):
        assert line in said
    said = lab.python("slurm", "bad.yaml", "--partition", "gpu", "--submit", status=2)
    assert "--partition: got gpu, expected one of main, urgent" in said
    words = ["bad.yaml", "--set", "storage=/tmp/runs", "--submit"]
    assert "storage: got /tmp/runs, a folder of this machine alone" in lab.python(
        "slurm", *words, status=2
    )
    assert not list(lab.work.glob("bad*.sbatch"))
    assert lab.user("squeue", "--noheader") == ""
