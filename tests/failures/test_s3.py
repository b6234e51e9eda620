"""A sweep whose store is an S3 that fails often, interrupted in the middle and given again."""

import csv
import io
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import s3_server
from commands import PATIENCE, TINY, free_port
from sweeps import SWEEP, finish, left_over, logged, results, rows, start

from orchestrator.store.place import Place
from orchestrator.store.places import place_of
from orchestrator.store.s3_client import client
from orchestrator.store.store import Store

STORAGE = f"s3://{s3_server.BUCKET}/runs"
EXPERIMENT = TINY.replace("steps: 20,", "steps: 300,").replace("{steps: 10}", "{steps: 25}") + SWEEP


@pytest.fixture
def service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[s3_server.Service]:
    with s3_server.running(free_port(), tmp_path / "service.log") as service:
        for name, value in {
            **service.environment,
            "XDG_CACHE_HOME": str(tmp_path / "cache"),
        }.items():
            monkeypatch.setenv(name, value)
        client.cache_clear()
        client().create_bucket(Bucket=s3_server.BUCKET)
        yield service
    client.cache_clear()


def stored(root: Place) -> dict[str, bytes | None]:
    """What `sweeps.results` says of a folder."""
    found: dict[str, bytes | None] = {}
    for manifest in (root / "stages").find("*/manifest.json"):
        result = Store(root).result(manifest.parent.name)
        names = [
            name for name in result.manifest["files"] if name not in ("metrics.json", "system.json")
        ]
        found |= {manifest.parent.name: None}
        found |= {
            f"{manifest.parent.name}/{name}": result.file(name).read_bytes() for name in names
        }
    return found


@pytest.mark.timeout(3 * PATIENCE)
def test_a_sweep_on_s3_that_was_interrupted_ends_with_the_results_of_a_folder(service, tmp_path):
    """Minutes: three runs, two of them on a store that fails and makes them ask again."""
    compared, cwd, root = tmp_path / "compared", tmp_path / "cwd", place_of(STORAGE)
    for folder in (compared, cwd):
        folder.mkdir()
        (folder / "x.yaml").write_text(EXPERIMENT)
    finish(start(compared))
    arguments = [
        "--set",
        f"storage={STORAGE}",
        "--set",
        f"tracking.uri=sqlite:///{cwd}/runs/mlflow.db",
    ]
    service.tell(**s3_server.FAULTS)
    first, until = start(cwd, *arguments), time.monotonic() + PATIENCE
    while len((root / "work").find("*/checkpoints/step-*.json")) < 2:
        assert first.poll() is None and time.monotonic() < until, first.communicate(timeout=5)
        time.sleep(0.5)
    first.send_signal(signal.SIGINT)
    said, _ = first.communicate(timeout=PATIENCE)
    assert first.returncode == 130, said
    assert len((root / "stages").find("*/manifest.json")) < len(
        list((compared / "runs" / "stages").iterdir())
    )

    assert STORAGE in finish(start(cwd, *arguments))
    assert stored(root) == results(compared / "runs")
    (table,) = (root / "sweeps").find("tiny/*/results.csv")
    found = list(csv.DictReader(io.StringIO(table.read_text())))
    same = ("trial", "status", "nfe", "fid", "fid_features", "seed", "error")
    assert [{k: r[k] for k in same} for r in found] == [
        {k: r[k] for k in same} for r in rows(compared / "runs")
    ]
    assert logged(cwd / "runs") == logged(compared / "runs")
    assert (table.parent / "report.html").exists()
    assert (root / "work").find("*") == (root / "ray").find("*") == []
    assert left_over(cwd) == []
