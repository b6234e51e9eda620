"""What distinguishes the sweeps of one name: settings that were changed in the file or with --set."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from orchestrator.fields.faults import describe
from orchestrator.plan.plan import Plan
from orchestrator.settings.changed import elements
from orchestrator.sweeps.records import NOT_OF_RESULTS

SHOWN = 4  # settings in a line


def differences(plans: Mapping[str, Plan]) -> dict[str, dict[str, Any]]:
    """For each plan, by its key, the settings by dotted key that are not the same in all `plans`, in
    the order of the file. A plan does not have what its kinds do not have, nor the file's value of a
    swept setting: it has the values that it tries, as sweep.space.KEY."""
    settings = {name: _settings(plan) for name, plan in plans.items()}
    texts = {name: {k: json.dumps(v) for k, v in own.items()} for name, own in settings.items()}
    return {
        name: {
            key: value
            for key, value in own.items()
            if len({other.get(key) for other in texts.values()}) > 1
        }
        for name, own in settings.items()
    }


def side_by_side(plans: Sequence[Plan]) -> dict[str, list[Any]]:
    """The same as rows: by dotted key the value of each plan; None where a plan does not have it."""
    found = differences({str(number): plan for number, plan in enumerate(plans)})
    keys = dict.fromkeys(key for own in found.values() for key in own)
    return {key: [own.get(key) for own in found.values()] for key in keys}


def line(differing: Mapping[str, Any]) -> str:
    """The first of the differing settings in one line, such as teacher.lr 0.001, seed 1."""
    shown = [f"{key} {describe(value)}" for key, value in list(differing.items())[:SHOWN]]
    rest = len(differing) - len(shown)
    return ", ".join([*shown, *([f"{rest} more"] if rest else [])])


def _settings(plan: Plan) -> dict[str, Any]:
    settings: dict[str, Any] = {}
    for key, value in plan.experiment.flat().items():
        block = key.partition(".")[0]
        if key == "sweep.space":
            if plan.goal == "sweep":
                settings |= {f"{key}.{k}": entry for k, entry in (value or {}).items()}
        elif block == "sweep":
            if plan.goal == "sweep":
                settings[key] = value
        elif block not in NOT_OF_RESULTS and key not in plan.swept:
            settings |= elements(key, value) or {key: value}
    return {k: v for k, v in settings.items() if k not in plan.swept}
