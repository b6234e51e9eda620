import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import shared
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
    def run(cwd: Path) -> float:
        began = time.monotonic()
        finish(start(cwd))
        taken = time.monotonic() - began
        counts = {"sweep": 1, "trial": 2, "teacher": 1, "student": 2}
        assert logged(cwd / "runs") == {(kind, "FINISHED"): n for kind, n in counts.items()}
        return taken

    cwd, taken = shared.once(tmp_path_factory, "undisturbed", run)
    return Undisturbed(cwd / "runs", taken)
