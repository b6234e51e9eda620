"""Sweeps on Slurm, by the batch script that the command `slurm` writes."""

import shutil
import subprocess
import sys

from commands import PATIENCE, TINY
from slurm_lab import SlurmLab, fids

STORE = ("--set", "storage=alone")  # of the same sweep on one machine
SWEEP = "sweep: {max_concurrent_trials: 2, space: {sampling.steps: {grid: [2, 4]}}}\n"


LONG = TINY.replace("steps: 20,", "steps: 3000,").replace("{steps: 10}", "{steps: 100}")


def write(lab: SlurmLab, name: str, text: str) -> None:
    shutil.rmtree(lab.work / "runs", ignore_errors=True)
    shutil.rmtree(lab.work / "alone", ignore_errors=True)
    add(lab, name, text)


def add(lab: SlurmLab, name: str, text: str) -> None:
    """Write an experiment, and leave the stores as they are."""
    (lab.work / f"{name}.yaml").write_text(text.replace("name: tiny", f"name: {name}"))


def worth_resuming(lab: SlurmLab) -> bool:
    """Whether a training has a checkpoint well after its start."""
    found = (lab.work / "runs").glob("work/*/checkpoints/step-*.json")
    return any(int(path.stem.removeprefix("step-")) >= 300 for path in found)


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


def test_a_job_that_is_pre_empted_resumes_when_the_nodes_are_free(lab: SlurmLab):
    write(lab, "urged", LONG)
    lab.python("sweep", "urged.yaml", *STORE)
    job = lab.submitted("urged.yaml", "--cpus-per-node", "2", "--time", "30")
    lab.wait_for(lambda: worth_resuming(lab))
    words = ["sbatch", "--parsable", "--partition=urgent", "--nodes=3", "--exclusive"]
    urgent = lab.user(*words, "--wrap=sleep 5")
    assert lab.wait_for_end(urgent) == "COMPLETED"
    assert lab.wait_for_end(job) == "COMPLETED", lab.about()
    assert lab.job(job)["Restarts"] == "1"
    assert lab.weights(lab.work / "runs") == lab.weights(lab.work / "alone") != {}
    assert lab.processes() == []


def test_a_job_whose_node_is_lost_resumes_on_another(lab: SlurmLab):
    write(lab, "lost", LONG)
    lab.python("sweep", "lost.yaml", *STORE)
    job = lab.submitted("lost.yaml", "--cpus-per-node", "2", "--time", "30")
    lab.wait_for(lambda: worth_resuming(lab))
    name = lab.job(job)["NodeList"]
    lab.hosts[name].down()
    try:
        assert lab.wait_for_end(job) == "COMPLETED", lab.about()
        assert lab.job(job)["NodeList"] != name and lab.job(job)["Restarts"] == "1"
    finally:
        lab.hosts.add(name)
        lab.start_node(name)
    assert lab.weights(lab.work / "runs") == lab.weights(lab.work / "alone") != {}
    lab.wait_for(lambda: lab.user("sinfo", "-h", "-o", "%D %t") == "3 idle")


def test_two_jobs_at_once_share_what_both_need(lab: SlurmLab):
    """Both need one teacher and one student, and each measures it in its own way."""
    write(lab, "first", TINY + SWEEP)
    add(lab, "second", TINY.replace("samples: 40", "samples: 48") + SWEEP)
    for name in ("first", "second"):
        lab.python("sweep", f"{name}.yaml", *STORE)
    words = ("--cpus-per-node", "1", "--time", "20")
    jobs = {name: lab.submitted(f"{name}.yaml", *words) for name in ("first", "second")}
    for name, job in jobs.items():
        assert lab.wait_for_end(job) == "COMPLETED", lab.about()
        assert "2 of 2 trials  done" in lab.python(
            "status", name, "--storage", str(lab.work / "runs")
        )
    assert lab.weights(lab.work / "runs") == lab.weights(lab.work / "alone") != {}
    assert fids(lab.work / "runs") == fids(lab.work / "alone") and len(fids(lab.work / "runs")) == 4
    assert lab.processes() == []


def test_the_tasks_of_an_array_make_one_sweep(lab: SlurmLab):
    space = "path.damping: {grid: [9.0, 16.0, 25.0]}, sampling.steps: {grid: [2, 4]}"
    write(lab, "grid", TINY + f"sweep: {{space: {{{space}}}}}\n")
    lab.python("sweep", "grid.yaml", *STORE)
    words = ("--cpus-per-node", "1", "--time", "20", "--array", "path.damping")
    job = lab.submitted("grid.yaml", *words)
    lab.wait_for(lambda: not lab.user("squeue", "--noheader", f"--jobs={job}"))
    assert lab.weights(lab.work / "runs") == lab.weights(lab.work / "alone") != {}
    assert "6 of 6 trials  done" in lab.python(
        "status", "grid", "--storage", str(lab.work / "runs")
    )
    (report,) = (lab.work / "runs").glob("sweeps/grid/*/report.html")
    assert "Trials: 6 done." in report.read_text()


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
