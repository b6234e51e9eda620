from collections.abc import Iterator

import pytest
from slurm_lab import SlurmLab


@pytest.fixture(scope="session")
def lab() -> Iterator[SlurmLab]:
    with SlurmLab() as lab:
        yield lab
