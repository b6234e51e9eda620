"""The files that images are made from: what they copy, install and set. Images are made where a
registry can be reached; docs/containers.md says how they were tried."""

import re
import subprocess
from pathlib import Path

import pytest
from commands import REPOSITORY

MACHINES = REPOSITORY / "orchestrator" / "machines"
DOCKERFILE = (MACHINES / "Dockerfile").read_text()
DEFINITION = (MACHINES / "kacflow.def").read_text()
SCRIPT = (MACHINES / "image.sh").read_text()


def copied() -> set[str]:
    """What the Dockerfile copies from the project's folder."""
    lines = re.findall(r"^COPY (?!--from)(.+) \S+$", DOCKERFILE, re.MULTILINE)
    return {word for line in lines for word in line.split()}


def sent() -> list[str]:
    """What .dockerignore lets through."""
    lines = (REPOSITORY / ".dockerignore").read_text().splitlines()
    return [line[1:] for line in lines if line.startswith("!")]


def test_both_images_copy_the_same_files_and_all_that_the_package_needs():
    of_definition = set(re.findall(r"^    (\S+) /source/\1$", DEFINITION, re.MULTILINE))
    assert of_definition == copied() - {"orchestrator/machines/image.sh"}
    assert of_definition == set(sent())
    assert all((REPOSITORY / name).exists() for name in copied())
    project = (REPOSITORY / "pyproject.toml").read_text()
    needed = re.findall(r'(?:readme = |license-files = \[)"(\S+)"', project)
    assert {
        *needed,
        "pyproject.toml",
        "constraints.txt",
        "kaccore",
        "orchestrator",
    } <= of_definition


def test_both_images_install_by_the_same_steps_under_the_constraints():
    for text in (DOCKERFILE, DEFINITION):
        steps = re.findall(r"image\.sh (\w+) ", text)
        assert steps == ["dependencies", "project"]
    assert "--constraint constraints.txt" in SCRIPT
    bases = [
        *re.findall(r"^ARG BASE=(\S+)", DOCKERFILE, re.MULTILINE),
        *re.findall(r"^From: (\S+)", DEFINITION, re.M),
    ]
    assert len(bases) == 2 and len(set(bases)) == 1
    minimum = re.findall(
        r'requires-python = ">=3\.(\d+)"', (REPOSITORY / "pyproject.toml").read_text()
    )
    assert re.findall(r"python:3\.(\d+)", bases[0]) >= minimum


def test_the_image_has_what_the_makefile_imports_for_its_bytecode():
    (imported,) = re.findall(r"-c '(import ray\.train\.torch[^']+)'", SCRIPT)
    assert f"-c '{imported}'" in (REPOSITORY / "Makefile").read_text()


def test_the_image_runs_without_root_as_any_number():
    last = DOCKERFILE[DOCKERFILE.rindex("\nFROM ") :]
    (user,) = re.findall(r"^USER (\S+)$", last, re.MULTILINE)
    assert all(int(number) > 0 for number in user.split(":"))
    assert "HOME=/tmp" in last and "USER=kacflow" in last


@pytest.mark.parametrize("arguments", [[], ["everything", "."]])
def test_an_unknown_step_is_refused_before_anything_is_installed(
    arguments: list[str], tmp_path: Path
):
    said = subprocess.run(
        ["sh", str(MACHINES / "image.sh"), *arguments], cwd=tmp_path, capture_output=True, text=True
    )
    assert said.returncode == 2
    assert "dependencies or project" in said.stderr
    assert not any(tmp_path.iterdir())
