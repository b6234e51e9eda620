import subprocess
from dataclasses import dataclass
from pathlib import Path

import fabricated
import pytest
import torch
from commands import REPOSITORY, run, settings

from orchestrator.records import Records

torch.set_num_threads(1)  # these networks are tiny: two threads that wait for each other take ten times as long


@dataclass(frozen=True)
class SweepRun:
    """The default sweep, run once with tiny numbers: where, by which arguments, and what it said."""

    cwd: Path
    arguments: list[str]
    said: subprocess.CompletedProcess[str]

    @property
    def storage(self) -> Path:
        return self.cwd / "runs"

    @property
    def folder(self) -> Path:
        (folder,) = (self.storage / "sweeps" / "nfe-sweep").iterdir()
        return folder


@pytest.fixture(scope="session")
def default_sweep(tmp_path_factory: pytest.TempPathFactory) -> SweepRun:
    cwd = tmp_path_factory.mktemp("default")
    tiny = settings(
        model__channels=8, teacher__steps=40, teacher__batch_size=16, distill__steps=10, distill__batch_size=16,
        evaluation__samples=64, cluster__workers=2,
    )  # fmt: skip
    arguments = [str(REPOSITORY / "experiments" / "nfe_sweep.yaml"), *tiny]
    return SweepRun(cwd, arguments, run(cwd, "sweep", *arguments))


@pytest.fixture(scope="session")
def fabricated_sweep(tmp_path_factory: pytest.TempPathFactory) -> Records:
    """A finished sweep, published when it was interrupted, and twice when it was over."""
    records = fabricated.sweep(tmp_path_factory.mktemp("fabricated") / "runs")
    fabricated.publish(records, "KILLED")
    assert fabricated.versions(records) == []
    for _ in range(2):
        fabricated.publish(records)
    return records
