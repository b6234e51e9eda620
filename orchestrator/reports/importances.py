"""Which swept settings matter: fANOVA, by Optuna, of what a search has measured."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from orchestrator.settings.entries import SpaceEntry

TREES = 64  # of the forest that fANOVA takes for the metric


def estimated(
    space: Mapping[str, SpaceEntry], settings: Sequence[Mapping[str, Any]], values: Sequence[float]
) -> tuple[dict[str, float], list[str]]:
    """The share of each swept key in the variance of `values`, those of `settings`, in 0 to 1,
    largest first; and the keys that were left out, because a setting has no value of the space: its
    kind does not have the key, or a condition keeps it at the file's value. The same input gives the
    same shares."""
    varied = [key for key in space if len({json.dumps(own.get(key)) for own in settings}) > 1]
    keys = [key for key in varied if all(_inside(space[key], own.get(key)) for own in settings)]
    left = [key for key in varied if key not in keys]
    if not keys:
        return {}, left
    if len(keys) == 1:  # it alone varies
        return {keys[0]: 1.0}, left
    import optuna

    from orchestrator.plan import optuna_points

    with optuna_points.silent():
        study = optuna.create_study()
        distributions = {key: optuna_points.distribution(space[key]) for key in keys}
        for own, value in zip(settings, values, strict=True):
            params = {key: optuna_points.inward(space[key], own[key]) for key in keys}
            study.add_trial(
                optuna.create_trial(params=params, distributions=distributions, value=value)
            )
        evaluator = optuna.importance.FanovaImportanceEvaluator(n_trees=TREES, seed=0)
        shares = optuna.importance.get_param_importances(
            study, evaluator=evaluator, normalize=False
        )
    return {key: float(share) for key, share in shares.items()}, left


def _inside(entry: SpaceEntry, value: Any) -> bool:
    if entry.kind in ("choice", "grid"):
        return value in entry.values
    low, high = entry.values
    return isinstance(value, int | float) and low <= value <= high
