"""What commands print with `--json`: one JSON object, for programs."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from orchestrator.fields.faults import Fault, masked
from orchestrator.plan.plan import Plan, Trial, skipped_lines
from orchestrator.plan.stage import TRAINING, Stage
from orchestrator.store import integrity
from orchestrator.store.store import Store

if TYPE_CHECKING:
    from orchestrator.sweeps.records import Records
    from orchestrator.work.forecast import Forecast


def print_json(content: Mapping[str, Any]) -> None:
    """Print one JSON object."""
    print(json.dumps(content, indent=1, ensure_ascii=False, default=str))


def of_plan(
    plan: Plan,
    part: Plan,
    store: Store,
    estimate: "Forecast",
    notes: Iterable[str],
) -> dict[str, Any]:
    """What would run: the trials of `part` of the plan, their stages, and the estimate."""
    damaged = {stage.key: what for stage, what in integrity.find_damaged(store, part.stages())}
    return {
        "sweep": plan.name,
        "trials": [_trial(trial) for trial in part.trials],
        "stages": [stage_row(stage, plan.names, store, damaged) for stage in part.stages()],
        "left_out": list(skipped_lines(plan)),
        "estimate": asdict(estimate),
        "notes": list(notes),
    }


def of_records(records: "Records", state: str) -> dict[str, Any]:
    """The progress of a sweep: how each trial ended or will, its measures, and what works now."""
    from orchestrator.sweeps.ranking import best_so_far
    from orchestrator.sweeps.verdict import verdicts

    plan, store = records.plan, records.store
    trials = [
        {
            **_trial(trial),
            "status": str(ending.status),
            "error": ending.error,
            "mlflow_run_id": ending.mlflow_run_id,
            "measures": records.measured(trial),
        }
        for trial, ending in records.entries()
    ]
    stages = []
    for stage in plan.stages():
        progress = None if store.done(stage.key) else store.progress(stage.key)
        stages.append(
            {**stage_row(stage, plan.names, store, records.damaged), "progress": progress}
        )
    return {
        "sweep": plan.name,
        "folder": str(records.folder),
        "state": state,
        "trials": trials,
        "stages": stages,
        "best": best_so_far(records),
        "verdict": [line for found in verdicts(records) for line in found.lines()],
    }


def of_faults(faults: Iterable[Fault]) -> list[dict[str, str]]:
    """Faults with their parts; passwords in addresses are masked, as in the messages."""
    return [
        {"source": masked(f.source), "key": masked(f.key), "message": masked(f.message)}
        for f in faults
    ]


def _trial(trial: Trial) -> dict[str, Any]:
    return {
        "trial": trial.index,
        "title": trial.title,
        "settings": trial.overrides,
        "stages": [stage.key for stage in trial.stages()],
    }


def stage_row(
    stage: Stage, names: Mapping[str, str], store: Store, damaged: Mapping[str, str]
) -> dict[str, Any]:
    """What a stage is, and whether it is done; `names` and `damaged` by key."""
    state = "damaged" if stage.key in damaged else "done" if store.done(stage.key) else "to do"
    return {
        "key": stage.key if stage.known else None,
        "name": names[stage.key],
        "kind": str(stage.kind),
        "training_steps": stage.steps if stage.kind in TRAINING else None,
        "state": state,
    }
