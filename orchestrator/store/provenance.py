"""The provenance of a result: the versions of packages and, where the run's folder is a git
checkout, the commit."""

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
# the variable with the driver's commit, for its workers, which run in folders of Ray; users without
# a checkout may set it
COMMIT = "KACFLOW_COMMIT"
DIRTY = "-dirty"  # suffix of a commit from which tracked files differ
GIT_SECONDS = 20.0


@cache
def made_by() -> dict[str, str]:
    """The version of `python` and of each installed one of PACKAGES, and the `commit` if there is
    one, as at the first call in this process."""
    versions = {"python": platform.python_version()}
    for name in PACKAGES:
        with suppress(PackageNotFoundError):
            versions[name] = version(name)
    commit = _commit()
    return {**versions, "commit": commit} if commit else versions


def export_commit() -> str:
    """Set the variable COMMIT to the commit of this process, for its child processes; returns it,
    empty where there is none."""
    os.environ[COMMIT] = _commit()
    return os.environ[COMMIT]


def commit_of(folder: Path) -> str:
    """The commit that is checked out in `folder`: 40 hexadecimal digits, and DIRTY where tracked
    files have changed; empty where `folder` is no checkout or git is not installed."""
    # --exclude: no tags, the bare hash
    command = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    # take no lock that could disturb git commands of a user in the checkout
    environment = {**os.environ, "GIT_OPTIONAL_LOCKS": "0"}
    try:
        git = subprocess.run(
            command,
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            timeout=GIT_SECONDS,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return git.stdout.strip() if git.returncode == 0 else ""


def _commit() -> str:
    exported = os.environ.get(COMMIT)
    return commit_of(Path.cwd()) if exported is None else exported
