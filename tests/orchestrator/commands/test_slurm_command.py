"""The batch script that the command `slurm` writes, on a machine without Slurm. With Slurm: tests/slurm."""

import subprocess
from pathlib import Path

import pytest
from commands import TINY, everything_below

from orchestrator import slurm, status
from orchestrator.cluster.slurm import jobs, scheduler, storage
from orchestrator.cluster.slurm.script import Allocation, clock, minutes_of, render
from orchestrator.store.places import place_of

SWEPT = (
    TINY + "sweep: {space: {path.damping: {grid: [9.0, 25.0]}, sampling.steps: {grid: [2, 4]}}}\n"
)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with an experiment, on a machine without Slurm, whose temporary files are elsewhere."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(scheduler, "available", lambda: False)
    monkeypatch.setattr(storage, "is_of_this_machine", lambda path: path == Path("/dev/shm/runs"))
    (tmp_path / "x.yaml").write_text(SWEPT)
    return tmp_path


@pytest.mark.parametrize(
    ("text", "minutes"),
    [
        ("90", 90), ("90:30", 91), ("4:00:00", 240), ("0:00:30", 1), ("2-0", 2880), ("1-12:30", 2190),
        ("1-00:00:01", 1441),
    ],
)  # fmt: skip
def test_times_are_those_of_slurm(text, minutes):
    assert minutes_of(text) == minutes
    assert minutes_of(clock(minutes)) == minutes


@pytest.mark.parametrize("text", ["", "soon", "0", "0:00", "-5", "1:2:3:4", "4h"])
def test_what_is_no_time_is_refused(text):
    with pytest.raises(ValueError, match="expected"):
        minutes_of(text)


def test_the_script_asks_for_what_was_given_and_is_valid_bash(folder):
    allocation = Allocation(2, 8, 4, 240, "long one", "physics", "high")
    text = render(
        "x y", "a b.yaml", Path("/home/me/my runs"), "/scratch/it's", allocation, ["name=q"]
    )
    asked = [line for line in text.splitlines() if line.startswith("#SBATCH")]
    assert "#SBATCH --nodes=2 --ntasks-per-node=1 --cpus-per-task=8" in asked
    assert {"#SBATCH --gpus-per-node=4", "#SBATCH --account=physics"} < set(asked)
    assert "#SBATCH --qos=high" in asked
    assert "#SBATCH --time=4:00:00 --signal=B:TERM@120" in asked
    assert "@" not in text.replace("B:TERM@120", "").replace("[@]", "")  # every blank is filled
    assert "cd '/home/me/my runs'" in text and "orchestrator.sweep 'a b.yaml' --set name=q" in text
    checked = subprocess.run(["bash", "-n"], input=text, text=True, capture_output=True)
    assert checked.returncode == 0, checked.stderr


def test_a_store_in_s3_is_looked_for_in_no_folder():
    text = render("x", "x.yaml", Path("/home"), "s3://bucket/runs", Allocation(1, 1, 0, 60))
    assert "mkdir -p" not in text and "--gpus-per-node" not in text and "--array" not in text


def test_it_writes_a_script_and_says_what_it_asks_for(folder, capsys):
    words = ["x.yaml", "--nodes", "2", "--cpus-per-node", "4", "--time", "10", "--set", "name=mine"]
    assert slurm.main(words) == 0
    said = capsys.readouterr().out
    assert "asks for  2 nodes with 4 CPUs each, 0:10:00 at a time" in said
    assert "checked   nothing of Slurm: this machine has no sinfo" in said
    assert "estimate  about " in said and "submit    sbatch mine.sbatch" in said
    text = (folder / "mine.sbatch").read_text()
    assert f"--set name=mine --set storage={folder / 'runs'}" in text
    assert slurm.main(words) == 0  # over its own file


def test_a_dry_run_prints_the_script_and_writes_nothing(folder, capsys):
    before = everything_below(folder)
    assert slurm.main(["x.yaml", "--dry-run", "--time", "4"]) == 0
    said = capsys.readouterr().out
    assert said.startswith("#!/bin/bash") and "asks for  1 node with" in said
    assert everything_below(folder) == before


def test_an_array_has_a_task_for_each_combination(folder):
    assert slurm.main(["x.yaml", "--array", "path.damping,sampling.steps"]) == 0
    text = (folder / "tiny.sbatch").read_text()
    assert "#SBATCH --array=0-3" in text and "--output=tiny-%A_%a.log" in text
    assert "  0) only=(--only path.damping=9.0 --only sampling.steps=2) ;;" in text
    assert "  3) only=(--only path.damping=25.0 --only sampling.steps=4) ;;" in text
    assert '"${only[@]}"' in text
    assert "\npython -m orchestrator.report " in text and "/sweeps/tiny/" in text


def test_gpus_that_are_asked_for_are_used(folder):
    assert slurm.main(["x.yaml", "--gpus-per-node", "2"]) == 0
    text = (folder / "tiny.sbatch").read_text()
    assert "--gpus-per-node=2" in text and "--set cluster.gpus_per_worker=1" in text


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--set", "storage=/dev/shm/runs"], "storage: got /dev/shm/runs, a folder of this machine alone"),
        (["--submit"], "--submit: this machine has no sbatch: run it on a login node"),
        (["--cpus-per-node", "1", "--set", "cluster.workers=2"], "cluster.cpus_per_worker need 2"),
        (["--array", "teacher.lr"], "--array: teacher.lr: expected a swept setting: swept are: path.damping, "),
        (["--set", "path.damping=1.0"], "which no trial would use"),
        (["--out", "none/x.sbatch"], "none/x.sbatch: --out: No such file or directory"),
        (["--out", "x.yaml"], "x.yaml: --out: is there already: give another name"),
    ],
)  # fmt: skip
def test_bad_words_are_refused_and_nothing_is_written(folder, capsys, words, message):
    before = everything_below(folder)
    assert slurm.main(["x.yaml", *words]) == 2
    assert message in capsys.readouterr().err
    assert everything_below(folder) == before


@pytest.mark.parametrize("words", [["--nodes", "0"], ["--time", "soon"], ["--cpus-per-node", "x"]])
def test_numbers_are_numbers(folder, words):
    with pytest.raises(SystemExit) as ended:
        slurm.main(["x.yaml", *words])
    assert ended.value.code == 2


def test_a_store_whose_first_job_waits_can_be_asked(folder, capsys):
    jobs.record(place_of("runs"), "12", "tiny/0123456789")
    assert status.main(["--storage", "runs"]) == 0
    assert list(jobs.lines(place_of("runs"))) == []  # this machine has no Slurm


@pytest.mark.parametrize(
    ("text", "count"),
    [("(null)", 0), ("gpu:4", 4), ("gpu:a100:8(S:0-1)", 8), ("gpu:a100:2,gpu:h100:2,shard:16", 4)],
)
def test_gpus_are_read_from_generic_resources(text, count):
    assert scheduler._gpus(text) == count
