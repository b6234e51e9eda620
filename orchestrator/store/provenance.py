"""What made a result: the versions of what it ran on and, where the run's folder is a git checkout,
the commit."""

import os
import platform
import subprocess
from contextlib import suppress
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

PACKAGES = (
    "kacflow",
    "torch",
    "torchvision",
    "numpy",
    "scipy",
    "torch-fidelity",
    "scikit-learn",
    "mlxtend",
    "ray",
    "mlflow",
    "optuna",
)
# the driver's commit, for its workers, whose folders are Ray's; who has none may set it
COMMIT = "KACFLOW_COMMIT"
DIRTY = "-dirty"  # ends a commit from which tracked files differ
GIT_SECONDS = 20.0


@cache
def made_by() -> dict[str, str]:
    """`python`, each of PACKAGES that is installed, and `commit` if there is one: of this process,
    from its start."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    commit = _commit()
    return {**found, "commit": commit} if commit else found


def announce() -> str:
    """The commit of this process, empty where there is none; from here on whom it starts takes it
    for theirs."""
    os.environ[COMMIT] = _commit()
    return os.environ[COMMIT]


def commit_of(folder: Path) -> str:
    """The commit that is checked out in `folder`, 40 hexadecimal digits and DIRTY where it was
    changed since; empty where it is no checkout, or git is not there."""
    command = [
        "git",
        "describe",
        "--always",
        "--dirty",
        "--abbrev=40",
        "--exclude=*",
    ]  # no tags: the bare hash
    environment = {
        **os.environ,
        "GIT_OPTIONAL_LOCKS": "0",
    }  # a look must not disturb who works in the checkout
    try:
        said = subprocess.run(
            command,
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            timeout=GIT_SECONDS,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return said.stdout.strip() if said.returncode == 0 else ""


def _commit() -> str:
    told = os.environ.get(COMMIT)
    return commit_of(Path.cwd()) if told is None else told
