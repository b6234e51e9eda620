import json
import os
import platform
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from commands import REPOSITORY
from stages import any_stage

from orchestrator.store import provenance
from orchestrator.store.store import Store
from orchestrator.work import machine_use
from orchestrator.work.machine_use import SystemUse

NOBODY = {
    "GIT_AUTHOR_NAME": "x",
    "GIT_AUTHOR_EMAIL": "x@x",
    "GIT_COMMITTER_NAME": "x",
    "GIT_COMMITTER_EMAIL": "x@x",
}
MADE_IN = (
    "import json; from orchestrator.store.provenance import made_by; print(json.dumps(made_by()))"
)


def git(folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        ["git", *arguments],
        cwd=folder,
        env={**os.environ, **NOBODY},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip()


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout with one commit, which has a tag."""
    folder = tmp_path / "checkout"
    folder.mkdir()
    git(folder, "init")
    (folder / "a").write_text("1")
    git(folder, "add", "a")
    git(folder, "commit", "-m", "first")
    git(folder, "tag", "-a", "v1", "-m", "v1")
    return folder


def test_a_checkout_has_its_commit_and_says_whether_tracked_files_differ(checkout):
    commit = git(checkout, "rev-parse", "HEAD")
    assert provenance.commit_of(checkout) == commit
    (checkout / "b").write_text("not tracked")
    assert provenance.commit_of(checkout) == commit
    (checkout / "a").write_text("2")
    assert provenance.commit_of(checkout) == f"{commit}-dirty"


def test_a_folder_that_is_no_checkout_or_has_no_commit_yet_has_none(tmp_path):
    assert provenance.commit_of(tmp_path) == ""
    git(tmp_path, "init")
    assert provenance.commit_of(tmp_path) == ""
    assert provenance.commit_of(tmp_path / "nowhere") == ""


def test_a_process_takes_the_commit_it_was_told_over_its_own_folders(checkout):
    own = {k: v for k, v in os.environ.items() if k != provenance.COMMIT} | {
        "PYTHONPATH": str(REPOSITORY)
    }
    for told, expected in (
        ({}, git(checkout, "rev-parse", "HEAD")),
        ({provenance.COMMIT: "c0ffee"}, "c0ffee"),
    ):
        said = subprocess.run(
            [sys.executable, "-c", MADE_IN],
            cwd=checkout,
            env=own | told,
            capture_output=True,
            text=True,
            check=True,
        )
        assert json.loads(said.stdout)["commit"] == expected


def test_a_manifest_says_what_made_it_and_the_key_does_not_depend_on_it(tmp_path):
    store, stage = Store(tmp_path), any_stage("teacher", {"seed": 0})
    sizes = {"count": 3, "channels": 1, "size": 8, "classes": 0}
    manifest = store.publish(stage, store.gather(stage), 0.0, sizes).manifest
    assert manifest["made_by"]["python"] == platform.python_version()
    assert set(manifest["made_by"]) - {"commit"} == {"python", *provenance.PACKAGES}
    assert manifest["data"] == sizes
    assert manifest["key"] == stage.key == any_stage("teacher", {"seed": 0}).key


def test_a_sample_is_taken_when_one_is_due_and_says_what_this_process_takes(monkeypatch):
    use = SystemUse(torch.device("cpu"))
    use.after(1, 0.1)
    assert use.points == []
    monkeypatch.setattr(use, "every", 0.0)
    ballast = torch.ones(50_000_000)  # 200 MB
    for _ in range(20):
        ballast.mul_(1.0)
    use.after(2, 0.25)
    (point,) = use.points
    assert (point["step"], point["seconds"]) == (2, 0.25)
    assert point["memory_mb"] > 200
    assert point["cpu_percent"] > 0
    assert not [name for name in point if name.startswith("gpu")]


def test_however_long_a_training_takes_its_samples_are_few_and_evenly_spread():
    use = SystemUse(torch.device("cpu"))
    for step in range(1, 2001):
        if (
            step % round(use.every / machine_use.EVERY_SECONDS) == 0
        ):  # as if a step took EVERY_SECONDS
            use.sample(step, float(step))
    steps = [p["step"] for p in use.points]
    assert 100 <= len(steps) <= 200
    assert {b - a for a, b in pairwise(steps)} == {16}
    assert use.every == 16 * machine_use.EVERY_SECONDS
