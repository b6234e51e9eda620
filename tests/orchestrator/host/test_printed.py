"""Commands that are printed run as they stand: pasted into a real shell, outside of the
environment, from where the user stands, whatever the store is called."""

import io
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import fabricated
import psutil
import pytest
from commands import PATIENCE, REPOSITORY, free_port, kill_all, run
from fabricated import client_of
from rich.console import Console

from orchestrator import ui
from orchestrator.console import conclusion
from orchestrator.host import printed
from orchestrator.sweeps import opening
from orchestrator.sweeps.records import Records
from orchestrator.tracking.hints import best_filters

ODD = "my runs? 'a%20b' #1 :cat:"
SHELL = {"PATH": "/usr/bin:/bin", "HOME": os.environ["HOME"], "PYTHONPATH": str(REPOSITORY), "MLFLOW_DISABLE_TELEMETRY":
         "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}  # fmt: skip


@pytest.fixture
def store(fabricated_sweep: Records, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Records:
    """A published store of an odd name below where the user stands."""
    monkeypatch.chdir(tmp_path)
    root = shutil.copytree(fabricated_sweep.store.root, tmp_path / ODD)
    records = opening.records_of(
        root / fabricated_sweep.folder.relative_to(fabricated_sweep.store.root)
    )
    fabricated.publish(records)  # it finds that it was copied
    return records


def concluded(records: Records, problem: str = "") -> dict[str, str]:
    """A run's closing lines by how they begin."""
    out = io.StringIO()
    conclusion.print_conclusion(records, Console(file=out, width=100), problem)
    lines = out.getvalue().splitlines()
    begins = ("results  ", "report  ", "MLflow  ", "filter  ", "publish what is missing with: ")
    found = {begin.strip(): line.removeprefix(begin).strip() for line in lines for begin in begins
             if line.startswith(begin)}  # fmt: skip
    assert len(found) == 4 + bool(problem)
    return found


def pasted(text: str, cwd: Path) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        ["sh", "-c", text], cwd=cwd, env=SHELL, capture_output=True, text=True, timeout=PATIENCE
    )


def experiments(port: int, process: "subprocess.Popen[bytes]", log: Path) -> list[str]:
    """The names of the experiments of a server, once it is up."""
    request = urllib.request.Request(f"http://127.0.0.1:{port}/api/2.0/mlflow/experiments/search",
                                     b'{"max_results": 10}', {"Content-Type": "application/json"})  # fmt: skip
    until = time.monotonic() + PATIENCE
    while True:
        try:
            with urllib.request.urlopen(request, timeout=5) as answer:
                return [e["name"] for e in json.loads(answer.read())["experiments"]]
        except OSError:
            assert process.poll() is None and time.monotonic() < until, log.read_text()
            time.sleep(0.2)


@pytest.mark.system
def test_the_closing_lines_are_pasted_as_they_are(store, tmp_path):
    (store.folder / "report.html").write_text("what a real run has written")
    said = concluded(store, "it was away")
    for name in ("results", "report"):
        assert pasted(f"cat {said[name]}", tmp_path).stdout
    (store.store.root / "mlflow.db").unlink()
    done = pasted(said["publish what is missing with:"], tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert {p.name for p in tmp_path.iterdir()} == {ODD}
    port, log = free_port(), tmp_path / "log"
    with log.open("w") as file:
        ui_process = subprocess.Popen(["sh", "-c", f"exec {said['MLflow']} --port {port}"], cwd=tmp_path, env=SHELL,
                                      stdout=file, stderr=file)  # fmt: skip
        try:
            assert "fabricated" in experiments(port, ui_process, log)
        finally:
            kill_all(ui_process)
    assert {p.name for p in tmp_path.iterdir()} == {ODD, "log"}
    run_id, _ = (r.info.run_id for r in client_of(store).search_runs(["1"], said["filter"])[:2])
    assert run_id


def test_a_word_that_looks_like_an_option_is_none(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert printed.quoted(tmp_path / "-n") == "./-n"
    assert shlex.split(printed.command("report", Path("a b"), "--publish")) == [
        *shlex.split(printed.quoted(Path(sys.executable))), "-m", "orchestrator.report", "a b", "--publish",
    ]  # fmt: skip


@pytest.mark.system
def test_make_ui_opens_a_store_of_any_name_on_a_port_of_ones_own(store, tmp_path):
    port, log = free_port(), tmp_path / "log"
    words = ["make", "--no-print-directory", "-o", ".venv/.ready", f"BIN={Path(sys.executable).parent}", "ui",
             f"STORAGE={store.store.root}", f"PORT={port}"]  # fmt: skip
    with log.open("w") as file:
        process = subprocess.Popen(words, cwd=REPOSITORY, env={**os.environ, **SHELL, "PATH": os.environ["PATH"]},
                                   stdout=file, stderr=file)  # fmt: skip
        try:
            assert "fabricated" in experiments(port, process, log)
            refused = run(tmp_path, "ui", "--storage", ODD, "--port", port)
            family = {p.pid for p in psutil.Process(process.pid).children(recursive=True)}
        finally:
            kill_all(process)
    assert refused.returncode == 2
    holder = re.match(rf"error: --port: got {port}, which process (\d+) \(.*mlflow.*\) uses: end it, or give another",
                      refused.stderr)  # fmt: skip
    assert holder is not None, refused.stderr
    assert int(holder[1]) in family


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--storage", "s3://bucket/x"],
            "--storage: got s3://bucket/x, which has no MLflow of its own",
        ),
        (
            ["--storage", "nowhere"],
            "--storage: got nowhere, but nowhere/mlflow.db does not exist: run a sweep first",
        ),
        (["--port", "0"], "--port: got 0, expected 1 to 65535"),
    ],
)
def test_what_the_ui_cannot_open_is_refused_and_nothing_is_made(
    arguments, message, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    assert ui.main(arguments) == 2
    assert message in capsys.readouterr().err
    assert not [*tmp_path.iterdir()]


def test_a_filter_has_the_best_alone_of_one_data_set(tmp_path, monkeypatch):
    grid = {"sampling.steps": {"grid": [1, 2]}, "data.name": {"grid": ["digits", "mnist"]}}
    records = fabricated.sweep(tmp_path / "runs", fabricated.experiment(sweep={"space": grid}))
    fabricated.publish(records)
    client = client_of(records)
    every = {
        r.data.tags["data"]: r.data.tags for r in client.search_runs(["1"], "tags.kind = 'trial'")
    }
    assert {(name.split()[0], tags["data.size"]) for name, tags in every.items()} == {
        ("digits", "8"),
        ("mnist", "28"),
    }
    found = [client.search_runs(["1"], text) for text in best_filters(records)]
    assert sorted([r.data.tags["data"] for r in runs] for runs in found) == [
        [name] * 2 for name in sorted(every)
    ]
    monkeypatch.setattr("orchestrator.tracking.hints.COMPARED", 1)
    found = [client.search_runs(["1"], text) for text in best_filters(records)]
    assert sorted(
        [(r.data.tags["data"], r.data.metrics["nfe"]) for r in runs] for runs in found
    ) == [[(name, 1.0)] for name in sorted(every)]


def test_mlflow_understands_the_number_in_a_filter(store, monkeypatch):
    monkeypatch.setattr("orchestrator.tracking.hints.COMPARED", 2)
    client = client_of(store)
    for fids in ([1e20, 2e20, 3e20], [1e-05, 2e-05, 3e-05], [-3.5, -2.5, 0.1 + 0.2]):
        for trial, fid in zip(store.plan.trials, fids, strict=True):
            store.measured(trial)["fid"] = fid
            client.log_metric(store.endings[trial.index].mlflow_run_id, "fid", fid)
        (text,) = best_filters(store)
        assert sorted(r.data.metrics["fid"] for r in client.search_runs(["1"], text)) == fids[:2]
