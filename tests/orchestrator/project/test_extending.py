"""The patches of docs/extending.md are applied to a copy of the sources, and what they add is run
there."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from commands import PATIENCE, REPOSITORY, TINY, own_environment

pytestmark = pytest.mark.system

FOLDER = REPOSITORY / "docs" / "extending"


@pytest.mark.parametrize(
    ("patch", "settings", "command", "stage"),
    [
        ("path", ["path.kind=trigonometric"], "distill", "student 2"),
        ("distiller", ["distill.kind=reflow"], "distill", "student reflow"),
        ("data", ["data.name=textures"], "train", "teacher"),
    ],
)
def test_what_a_patch_adds_is_trained_and_sampled(tmp_path, patch, settings, command, stage):
    for package in ("kaccore", "orchestrator"):
        shutil.copytree(
            REPOSITORY / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__")
        )
    subprocess.run(
        ["git", "apply", "--verbose", FOLDER / f"{patch}.patch"], cwd=tmp_path, check=True
    )
    (tmp_path / "x.yaml").write_text(TINY)
    options = [part for setting in settings for part in ("--set", setting)]
    said = run_there(tmp_path, command, "x.yaml", *options)
    assert said.returncode == 0, said.stdout + said.stderr
    assert f"{stage}: done" in said.stdout, said.stdout
    model = "teacher" if command == "train" else "student"
    drawn = run_there(
        tmp_path,
        "sample",
        "tiny",
        "--model",
        model,
        "--steps",
        "2",
        "--count",
        "4",
        "--out",
        "x.png",
    )
    assert drawn.returncode == 0, drawn.stderr
    assert f"4 images of {model}" in drawn.stdout and f": {stage}, stage" in drawn.stdout
    assert (tmp_path / "x.png").stat().st_size > 0
    reference = run_there(tmp_path, "reference")
    assert settings[0].partition("=")[2] in reference.stdout


def run_there(cwd: Path, name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """A command of the sources in `cwd`."""
    environment = {
        **own_environment(),
        "PYTHONPATH": f"{cwd}{os.pathsep}",
        "GIT_CEILING_DIRECTORIES": str(cwd.parent),
    }
    return subprocess.run(
        [sys.executable, "-m", f"orchestrator.{name}", *arguments],
        cwd=cwd, env=environment, capture_output=True, text=True, timeout=PATIENCE,
    )  # fmt: skip
