"""In which settings experiments differ."""

from collections.abc import Sequence
from typing import Any

from orchestrator.settings.experiment import Experiment


def differing(experiments: Sequence[Experiment]) -> dict[str, list[Any]]:
    """By dotted key the values of each experiment, where they are not all the same; None where one
    does not have the key."""
    flat = [experiment.flat() for experiment in experiments]
    keys = dict.fromkeys(key for settings in flat for key in settings)
    return {
        key: [settings.get(key) for settings in flat]
        for key in keys
        if any(settings.get(key) != flat[0].get(key) for settings in flat)
    }
