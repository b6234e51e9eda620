import time
from collections.abc import Iterator

import pytest
from commands import kill_all
from sweeps import STARTED, Undisturbed, finish, logged, start


@pytest.fixture(autouse=True)
def nothing_runs_on() -> Iterator[None]:
    """A test that fails does not leave its sweep to take the next one's CPUs."""
    yield
    while STARTED:
        process = STARTED.pop()
        if process.poll() is None:
            kill_all(process)


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Undisturbed:
    cwd = tmp_path_factory.mktemp("undisturbed")
    began = time.monotonic()
    finish(start(cwd))
    taken = time.monotonic() - began
    counts = {"sweep": 1, "trial": 2, "teacher": 1, "student": 2}
    assert logged(cwd / "runs") == {(kind, "FINISHED"): count for kind, count in counts.items()}
    return Undisturbed(cwd / "runs", taken)
