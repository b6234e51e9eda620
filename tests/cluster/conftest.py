import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from commands import command, kill_all, own_environment
from hosts import Hosts
from lab import EXPERIMENT, Lab, clear
from sweeps import finish


@pytest.fixture(scope="session")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, subprocess.Popen[str]]]:
    """The same sweep on this machine alone, begun, and the folder where it runs."""
    cwd = tmp_path_factory.mktemp("alone")
    (cwd / "x.yaml").write_text(EXPERIMENT)
    sweep = subprocess.Popen(
        command("sweep", "x.yaml"), cwd=cwd, env=own_environment(), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    yield cwd, sweep
    if sweep.poll() is None:
        kill_all(sweep)


@pytest.fixture(scope="session")
def undisturbed(alone: tuple[Path, subprocess.Popen[str]]) -> Path:
    """The store of the same sweep on this machine alone."""
    cwd, sweep = alone
    finish(sweep)
    return cwd / "runs"


@pytest.fixture(scope="session")
def lab(alone: tuple[Path, subprocess.Popen[str]]) -> Iterator[Lab]:
    """A cluster that was launched once for all tests, while the run goes on that it is compared
    with."""
    assert os.geteuid() == 0, "hosts of one machine need root"
    folder = Path(tempfile.mkdtemp(prefix="kac-lab-"))
    folder.chmod(0o711)  # PostgreSQL's own user has to get through to its folder
    try:
        with Hosts(folder, ("desk", "head", "w1", "w2")) as hosts:
            lab = Lab(hosts, folder)
            lab.launch()
            yield lab
    finally:
        clear(folder)
