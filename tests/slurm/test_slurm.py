"""Sweeps on Slurm, by the batch script that the command `slurm` writes."""

import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from commands import PATIENCE, TINY
from slurm_lab import APART, MAIN, SlurmLab, fids

SWEEP = "sweep: {max_concurrent_trials: 2, space: {sampling.steps: {grid: [2, 4]}}}\n"
LONG = TINY.replace("steps: 20,", "steps: 3000,").replace("{steps: 10}", "{steps: 100}")
LONGEST = LONG.replace("steps: 3000,", "steps: 6000,")
AT_LIMIT = "test_at_the_time_limit_a_training_is_saved_and_the_job_resumes_in_the_next_allocation"


def write(lab: SlurmLab, name: str, text: str, store: str = "") -> None:
    """Write an experiment, whose store is a folder of its name, or `store`."""
    text = text.replace("name: tiny", f"name: {name}")
    (lab.work / f"{name}.yaml").write_text(f"storage: {store or name}-runs\n{text}")


class Alone:
    """The sweep of an experiment on one machine, at the same time as jobs: what they compare with."""

    def __init__(self, lab: SlurmLab, name: str) -> None:
        self.lab, self.storage = lab, lab.work / f"{name}-alone"
        words = [f"{name}.yaml", "--set", f"storage={self.storage}"]
        self.process = subprocess.Popen(
            lab.user_command(sys.executable, "-m", "orchestrator.sweep", *words),
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip

    def has_the_weights_of(self, store: str) -> bool:
        """Whether the sweep has ended well, with some networks, and those of the other `store`."""
        said, _ = self.process.communicate(timeout=PATIENCE)
        assert self.process.returncode == 0, said
        weights = self.lab.weights(self.lab.work / f"{store}-runs")
        return weights == self.lab.weights(self.storage) != {}


@pytest.fixture(scope="module", autouse=True)
def at_limit(lab: SlurmLab, request: pytest.FixtureRequest) -> tuple[str, Alone] | None:
    """The job that meets its time limit, and its sweep on one machine: begun before all other tests,
    on nodes of its own, since it waits for minutes. None where its test is not asked for."""
    if not any(item.name == AT_LIMIT for item in request.session.items):
        return None
    write(lab, "limit", LONGEST)
    words = ("--partition", "apart", "--cpus-per-node", "1", "--time", "4")
    job = lab.submitted("limit.yaml", *words)
    # its Ray starts before those of others: one that has not started after 30 seconds gives up
    lab.wait_for(lambda: any((lab.work / "limit-runs").glob("work/*/checkpoints/step-*.json")))
    return job, Alone(lab, "limit")


@pytest.fixture(scope="module")
def long_alone(lab: SlurmLab) -> Iterator[Alone]:
    """The sweep of the tests that interrupt a job."""
    write(lab, "long", LONG)
    yield Alone(lab, "long")


def resumable(lab: SlurmLab, name: str) -> str:
    """A job whose training has a checkpoint well after its start."""
    write(lab, name, LONG)
    job = lab.submitted(f"{name}.yaml", "--cpus-per-node", "2", "--time", "30")

    def worth_resuming() -> bool:
        found = (lab.work / f"{name}-runs").glob("work/*/checkpoints/step-*.json")
        return any(int(path.stem.removeprefix("step-")) >= 300 for path in found)

    lab.wait_for(worth_resuming)
    return job


def test_a_sweep_runs_on_two_nodes_and_gives_the_results_of_one_machine(lab: SlurmLab):
    write(lab, "two", TINY + "cluster: {workers: 2}\n" + SWEEP)
    job = lab.submitted("two.yaml", "--nodes", "2", "--cpus-per-node", "2", "--time", "20")
    alone = Alone(lab, "two")
    said = lab.python("status", "two", "--storage", str(lab.work / "two-runs"))
    assert f"Slurm job {job}, two/" in said and ("RUNNING on w[2-3]" in said or "PENDING (" in said)
    assert lab.wait_for_end(job) == "COMPLETED", lab.about()
    said = (lab.work / f"two-{job}.log").read_text()
    assert "verdict   fid on digits-cnn-v1" in said
    assert alone.has_the_weights_of("two")
    assert lab.processes() == []


def test_a_job_that_is_pre_empted_resumes_when_the_nodes_are_free(lab: SlurmLab, long_alone: Alone):
    job = resumable(lab, "urged")
    words = ["sbatch", "--parsable", "--partition=urgent", f"--nodes={len(MAIN)}", "--exclusive"]
    urgent = lab.user(*words, "--wrap=sleep 5")
    assert lab.wait_for_end(urgent) == "COMPLETED"
    assert lab.wait_for_end(job) == "COMPLETED", lab.about()
    assert lab.job(job)["Restarts"] == "1"
    assert long_alone.has_the_weights_of("urged")
    assert lab.processes() == []


def test_a_job_whose_node_is_lost_resumes_on_another(lab: SlurmLab, long_alone: Alone):
    job = resumable(lab, "lost")
    name = lab.job(job)["NodeList"]
    lab.hosts[name].down()
    try:
        assert lab.wait_for_end(job) == "COMPLETED", lab.about()
        assert lab.job(job)["NodeList"] != name and lab.job(job)["Restarts"] == "1"
    finally:
        lab.hosts.add(name)
        lab.start_node(name)
    assert long_alone.has_the_weights_of("lost")
    lab.wait_for(lambda: lab.node_state(name) == "idle")


def test_two_jobs_at_once_share_what_both_need(lab: SlurmLab):
    """Both need one teacher and one student, and each measures it in its own way."""
    samples = {"first": 40, "second": 48}
    for name, count in samples.items():
        write(lab, name, TINY.replace("samples: 40", f"samples: {count}") + SWEEP, "shared")
    words = ("--cpus-per-node", "1", "--time", "20")
    jobs = {name: lab.submitted(f"{name}.yaml", *words) for name in samples}
    write(lab, "both", TINY + SWEEP.replace("}}}", "}, evaluation.samples: {grid: [40, 48]}}}"))
    alone = Alone(lab, "both")
    for name, job in jobs.items():
        assert lab.wait_for_end(job) == "COMPLETED", lab.about()
        assert "2 of 2 trials  done" in lab.python(
            "status", name, "--storage", str(lab.work / "shared-runs")
        )
    assert alone.has_the_weights_of("shared")
    found = fids(lab.work / "shared-runs")
    assert found == fids(alone.storage) and len(found) == 4
    assert lab.processes() == []


def test_the_tasks_of_an_array_make_one_sweep_in_the_store_and_in_mlflow(lab: SlurmLab):
    """On what the nodes take for a network file system, so that each has a database of its own, and
    the login node opens what they have published together."""
    space = (
        "path.damping: {grid: [9.0, 16.0, 25.0]}, sampling.model: {grid: [teacher, student]}, "
        "sampling.steps: {grid: [2, 4]}"
    )
    write(lab, "grid", TINY + f"sweep: {{space: {{{space}}}}}\n")
    words = ("--cpus-per-node", "1", "--time", "20", "--array", "path.damping")
    storage, served = lab.work / "grid-runs", lab.work / "served-runs"
    with lab.on_network(storage, served):
        job = lab.submitted("grid.yaml", *words)
        alone = Alone(lab, "grid")
        lab.wait_for(lambda: not lab.user("squeue", "--noheader", f"--jobs={job}"))
        assert alone.has_the_weights_of("served"), lab.about()
        assert "12 of 12 trials  done" in lab.python("status", "grid", "--storage", str(storage))
        said = lab.ui(storage, 5099)
    (report,) = served.glob("sweeps/grid/*/report.html")
    assert "Trials: 12 done." in report.read_text()
    assert "MLflow's database as it was published at 2" in said and "open grid/" in said
    assert logged_trials(served / "mlflow" / "mlflow.db") == 12


def logged_trials(database: Path) -> int:
    """The finished trials in a database of MLflow's."""
    with closing(sqlite3.connect(database)) as opened:
        query = (
            "SELECT count(*) FROM runs JOIN tags USING (run_uuid) WHERE key = 'kind' AND value = 'trial' "
            "AND status = 'FINISHED' AND lifecycle_stage = 'active'"
        )
        return int(opened.execute(query).fetchone()[0])


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
        "--nodes: got 4, but partition main has 2",
        "--cpus-per-node: got 3, but nodes of partition main have 2",
        "--gpus-per-node: got 1, but nodes of partition main have 0",
        "--time: got 2-00:00:00, but the time limit of partition main is 1-00:00:00",
    ):
        assert line in said
    said = lab.python("slurm", "bad.yaml", "--partition", "gpu", "--submit", status=2)
    assert "--partition: got gpu, expected one of main, urgent, apart, brief, closed" in said
    words = ["bad.yaml", "--partition", "closed", "--account", "nobody", "--submit"]
    said = lab.python("slurm", *words, status=2)
    assert "slurm: it refuses this job: Invalid account or account/partition combination" in said
    assert "correct --account, --qos or --partition" in said
    words = ["bad.yaml", "--set", "storage=/tmp/runs", "--submit"]
    assert "storage: got /tmp/runs, a folder of this machine alone" in lab.python(
        "slurm", *words, status=2
    )
    assert not list(lab.work.glob("bad*.sbatch"))
    assert lab.user("squeue", "--noheader", "--name=bad") == ""


def test_a_job_whose_store_is_full_ends_with_one_clear_line(lab: SlurmLab):
    write(lab, "quota", TINY)
    storage = lab.work / "quota-runs"
    with lab.full(MAIN, storage, room="300K"):
        job = lab.submitted("quota.yaml", "--cpus-per-node", "1", "--time", "20")
        assert lab.wait_for_end(job) == "FAILED", lab.about()
    said = (lab.work / f"quota-{job}.log").read_text()
    assert "No space left on device" in said and "Traceback" not in said
    assert lab.processes() == []


def test_at_the_time_limit_a_training_is_saved_and_the_job_resumes_in_the_next_allocation(
    lab: SlurmLab, at_limit: tuple[str, Alone]
):
    """Minutes: Slurm's signal comes two to three minutes before a time limit, and the shortest one
    that leaves time for a training is of four."""
    job, alone = at_limit
    assert lab.wait_for_end(job) == "COMPLETED", lab.about()
    said = (lab.work / f"limit-{job}.log").read_text()
    assert said.count("continues in the next allocation") == int(lab.job(job)["Restarts"]) >= 1
    assert "the same command resumes" in said
    assert said.count("verdict   fid on digits-cnn-v1") == 1
    assert alone.has_the_weights_of("limit")
    assert lab.processes(APART) == []
