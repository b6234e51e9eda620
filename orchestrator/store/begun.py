"""When a sweep was run last. Its plan.json says so: the time of a file is another one once a store
was copied."""

import json
from typing import Any

from orchestrator.store.place import Place

BEGUN = "begun"  # the key in plan.json: seconds since 1970


def begun(plan: Place) -> float:
    """When the sweep with this plan.json was run last, in seconds since 1970; of one that an
    earlier version wrote, or that is damaged, when the file was written. Raises an OSError where
    there is none."""
    try:
        noted: Any = json.loads(plan.read_text()).get(BEGUN)
    except (ValueError, AttributeError):
        noted = None
    return (
        plan.modified()
        if not isinstance(noted, int | float) or isinstance(noted, bool)
        else float(noted)
    )
