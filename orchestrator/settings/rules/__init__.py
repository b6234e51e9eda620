"""Rules between settings, one module for each part of the file. The rules of a kind are in the
module of the kind. `broken` checks all of them."""

from collections.abc import Iterable

from orchestrator.fields.faults import Fault
from orchestrator.fields.kind import Kind
from orchestrator.fields.rule import RULES
from orchestrator.settings.experiment import Experiment
from orchestrator.settings.rules import data, sampling, storage, sweeps, training

__all__ = ["broken", "data", "sampling", "storage", "sweeps", "training"]


def broken(experiment: Experiment, unsound: Iterable[str] = ()) -> list[Fault]:
    """The faults, without a source, of all rules. A rule that reads a setting at or below a key in
    `unsound` is skipped."""
    unsound = set(unsound)
    blocks = (getattr(experiment, name) for name in type(experiment).model_fields)
    of_kinds = [rule for block in blocks if isinstance(block, Kind) for rule in block.rules()]
    faults = []
    for rule in (*RULES, *of_kinds):
        if any(key == bad or key.startswith(f"{bad}.") for key in rule.needs for bad in unsound):
            continue
        message = rule.check(experiment)
        if message is not None:
            first = rule.needs[0]
            faults.append(Fault("", first, message, involves=rule.needs, pairing=rule.pairing))
    return faults
