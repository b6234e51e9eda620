"""Whether the nodes of Slurm may see the store of an experiment, by what this machine knows."""

from pathlib import Path

from orchestrator.fields.faults import Fault
from orchestrator.host.mounts import is_of_this_machine
from orchestrator.settings.experiment import Experiment


def local_storage(experiment: Experiment, source: str) -> Fault | None:
    """The fault of a store that is a folder of this machine alone; None for others."""
    storage = experiment.storage
    if "://" in storage or not is_of_this_machine(Path(storage)):
        return None
    message = f"got {storage}, a folder of this machine alone: give one that all nodes see"
    return Fault(source, "storage", message)
