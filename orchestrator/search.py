"""The sweep block as trials: each a complete single run."""

from dataclasses import dataclass, replace
from itertools import product
from typing import Any

from orchestrator.config import Experiment, examine
from orchestrator.faults import ConfigError, Fault
from orchestrator.space import in_space, with_values


@dataclass(frozen=True)
class TrialSpec:
    """Trial number `index`: `config` is the base with `overrides` (dotted key -> value) and without a sweep."""

    index: int
    overrides: dict[str, Any]
    config: Experiment


@dataclass(frozen=True)
class Skipped:
    """A combination that cannot be, and why."""

    overrides: dict[str, Any]
    reason: str


@dataclass(frozen=True)
class Expansion:
    trials: list[TrialSpec]
    skipped: list[Skipped]


def expand(experiment: Experiment, source: str | None = None) -> Expansion:
    """Every combination of the grid, keys in the file's order, the last one fastest; a run without a sweep is one.

    Combinations that cannot be (a student at a step count that its chain has not) are skipped with their reason.
    Raises ConfigError, named after `source` (or else the experiment), where values are wrong in combination, each
    told once, and where nothing is left to run.
    """
    if experiment.sweep is None:
        return Expansion([TrialSpec(0, {}, experiment)], [])
    source = source or experiment.name
    base = {**experiment.model_dump(mode="json"), "sweep": None}
    keys = list(experiment.sweep.space)
    trials: list[TrialSpec] = []
    skipped: list[Skipped] = []
    faults: list[Fault] = []
    for values in product(*(grid.grid for grid in experiment.sweep.space.values())):
        written = dict(zip(keys, values, strict=True))
        config, found = examine(with_values(base, written))
        overrides = {key: config.value(key) for key in keys}  # as the run has them: 25 is 25.0
        wrong = [fault for fault in found if not fault.pairing]
        faults += [replace(in_space(fault, written), source=source) for fault in wrong]
        if found and not wrong:
            skipped.append(Skipped(overrides, "; ".join(f"{fault.key}: {fault.message}" for fault in found)))
        elif not found:
            trials.append(TrialSpec(len(trials), overrides, config))
    if not faults and not trials:
        reason = f"none of the {len(skipped)} combinations can be run; the first: {skipped[0].reason}"
        faults.append(Fault(source, "sweep.space", reason))
    if faults:
        raise ConfigError(faults)
    return Expansion(trials, skipped)
