"""When a sweep was last run. The time is in its plan.json, because copying a store may change the
times of files."""

import json
from typing import Any

from orchestrator.store.place import Place

BEGUN = "begun"  # the key in plan.json: seconds since 1970


def last_run(plan: Place) -> float:
    """When the sweep with this plan.json was last run, in seconds since 1970; the time of the file
    where it is damaged or an earlier version wrote it. Raises OSError where there is none."""
    try:
        begun: Any = json.loads(plan.read_text()).get(BEGUN)
    except (ValueError, AttributeError):
        begun = None
    if isinstance(begun, int | float) and not isinstance(begun, bool):
        return float(begun)
    return plan.modified()
