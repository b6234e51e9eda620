"""What settings demand of each other: one room for each kind of rule, all of them tried by `broken`."""

from orchestrator.rules import of_networks, of_sampling, of_storage, of_sweeps, of_training
from orchestrator.rules.base import broken
from orchestrator.rules.of_sampling import class_faults

__all__ = ["broken", "class_faults", "of_networks", "of_sampling", "of_storage", "of_sweeps", "of_training"]
