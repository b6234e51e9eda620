"""What earlier sweeps have measured, as points for the search of a new one."""

from orchestrator.fields.faults import ConfigError, Fault
from orchestrator.plan.plan import Plan, features_of, reference_stage
from orchestrator.plan.points import Known, within
from orchestrator.store import layout
from orchestrator.store.stage_result import DamagedError
from orchestrator.sweeps.opening import records_of
from orchestrator.sweeps.records import Records


def earlier_points(records: Records, source: str) -> list[Known]:
    """What the sweeps in `sweep.learn_from` have measured, as points of this one's space; raises
    ConfigError where one is not there. Trials whose metric has other features, or that lie outside
    the space, teach nothing."""
    sweep = records.plan.experiment.sweep
    if sweep is None or not sweep.learn_from:
        return []
    found: list[Known] = []
    for name in sweep.learn_from:
        folders = (records.store.root / layout.SWEEPS).find(name if "/" in name else f"{name}/*")
        folders = [folder for folder in folders if (folder / layout.PLAN).exists()]
        if not folders:
            there = [
                p.parent.parent.name
                for p in (records.store.root / layout.SWEEPS).find(layout.ANY_PLAN)
            ]
            what = f"got {name}, expected a sweep of {records.store.root}: {', '.join(dict.fromkeys(there)) or 'none'}"
            raise ConfigError([Fault(source, "sweep.learn_from", what)])
        for folder in folders:
            other = records_of(folder)
            found += known_elsewhere(other, records.plan)
            if other.damaged:  # what is drawn would depend on it
                raise DamagedError(str(other.store.root), other.damaged)
    return found


def known_elsewhere(records: Records, plan: Plan) -> list[Known]:
    """The finished trials of another sweep as points of `plan`'s space, as far as they lie in it
    and are measured on the same data with the same features."""
    sweep, found = plan.experiment.sweep, []
    assert sweep is not None and plan.facts_of is not None
    reference = reference_stage(plan.experiment, plan.facts_of(plan.experiment))
    fingerprint, features = reference.data.fingerprint, features_of(reference)
    drawn = {key: entry for key, entry in sweep.space.items() if entry.kind != "grid"}
    for trial in records.plan.trials:
        measured = records.measured(trial)
        same = trial.facts.fingerprint == fingerprint and measured.get("fid_features") == features
        value = measured.get(sweep.metric)
        point = {key: trial.config.value(key) for key in drawn}
        if value is not None and same and all(within(drawn[key], point[key]) for key in drawn):
            found.append(Known(point, value))
    return found
