"""Results of other sweeps as known points for the search of a new one (`sweep.learn_from`)."""

from typing import Any

from orchestrator.fields.faults import ConfigError, Fault
from orchestrator.plan.plan import Plan, features_of, reference_stage
from orchestrator.plan.points import Known, within
from orchestrator.store import layout
from orchestrator.store.stage_result import DamagedError
from orchestrator.sweeps.opening import records_of
from orchestrator.sweeps.records import Records


def earlier_points(records: Records, source: str) -> list[Known]:
    """The finished trials of the sweeps in `sweep.learn_from`, as points of this sweep's space;
    raises ConfigError where one of the sweeps does not exist."""
    sweep = records.plan.experiment.sweep
    if sweep is None or not sweep.learn_from:
        return []
    sweeps = records.store.root / layout.SWEEPS
    points: list[Known] = []
    for name in sweep.learn_from:
        folders = sweeps.find(name if "/" in name else f"{name}/*")
        folders = [folder for folder in folders if (folder / layout.PLAN).exists()]
        if not folders:
            names = [plan.parent.parent.name for plan in sweeps.find(layout.ANY_PLAN)]
            existing = ", ".join(dict.fromkeys(names)) or "none"
            what = f"got {name}, expected a sweep of {records.store.root}: {existing}"
            raise ConfigError([Fault(source, "sweep.learn_from", what)])
        for folder in folders:
            other = records_of(folder)
            points += comparable_points(other, records.plan)
            if other.damaged:  # the search would depend on what is missing
                raise DamagedError(str(other.store.root), other.damaged)
    return points


def comparable_points(records: Records, plan: Plan) -> list[Known]:
    """The finished trials of another sweep as points of `plan`'s space: those inside the space that
    are measured on the same data with the same features."""
    sweep = plan.experiment.sweep
    assert sweep is not None and plan.facts_of is not None
    reference = reference_stage(plan.experiment, plan.facts_of(plan.experiment))
    fingerprint, features = reference.data.fingerprint, features_of(reference)
    sampled = {key: entry for key, entry in sweep.space.items() if entry.kind != "grid"}
    points = []
    for trial in records.plan.trials:
        measured = records.measured(trial)
        values: list[Any] = [measured.get(name) for name in sweep.objectives]
        if None in values or trial.facts.fingerprint != fingerprint:
            continue
        if measured.get("fid_features") != features:
            continue
        point = {key: trial.config.value(key) for key in sampled}
        if all(within(entry, point[key]) for key, entry in sampled.items()):
            points.append(Known(point, tuple(values)))
    return points
