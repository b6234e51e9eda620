"""What settings demand of each other: one room for each kind of rule, all of them tried by
`broken`."""

from orchestrator.settings.rules import networks, sampling, storage, sweeps, training
from orchestrator.settings.rules.rule import broken
from orchestrator.settings.rules.sampling import class_faults

__all__ = ["broken", "class_faults", "networks", "sampling", "storage", "sweeps", "training"]
