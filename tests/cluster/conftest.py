import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from commands import run
from hosts import Hosts
from lab import EXPERIMENT, Lab, clear


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """All that needs the lab is run by one process, one after the other, and the rest by another meanwhile."""
    for item in items:
        needs = isinstance(item, pytest.Function) and "lab" in item.fixturenames
        item.add_marker(pytest.mark.xdist_group("lab" if needs else "aside"))


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The store of the same sweep on this machine alone."""
    cwd = tmp_path_factory.mktemp("undisturbed")
    (cwd / "x.yaml").write_text(EXPERIMENT)
    said = run(cwd, "sweep", "x.yaml")
    assert said.returncode == 0, said.stdout + said.stderr
    return cwd / "runs"


@pytest.fixture(scope="session")
def lab(undisturbed: Path) -> Iterator[Lab]:
    """A cluster that was launched once for all tests, after the run that it is compared with: there are two cores."""
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
