"""Samples of networks during their training and at its end, as the report shows them."""

from dataclasses import dataclass

from orchestrator.plan.stage import Stage
from orchestrator.reports.aggregates import Results
from orchestrator.store import layout
from orchestrator.store.stage_result import DamagedError
from orchestrator.sweeps.training_fids import fids, look_picture, look_steps

# each picture adds some tens of kilobytes to the page
NETWORKS = 8
PICTURES = 12  # of a network


@dataclass(frozen=True)
class Look:
    """Samples of a network after `step`, a PNG file, and its FID then, if that is known."""

    step: int
    fid: float | None
    picture: bytes


@dataclass(frozen=True)
class LookedAt:
    """A network with what is shown of the `count` looks at it."""

    name: str
    looks: tuple[Look, ...]
    count: int


def looked_at(results: Results) -> tuple[list[LookedAt], int]:
    """The networks that were looked at during their training, those of the best trials first, at
    most NETWORKS; and how many there are."""
    trials = (trial for group in results.groups for trial in group.trials)
    ranked = dict.fromkeys(stage for trial in trials for stage in trial.chain)
    shown: list[LookedAt] = []
    count = 0
    for stage in ranked:
        try:
            steps = look_steps(results.records.store, stage.key)
            count += bool(steps)
            if steps and len(shown) < NETWORKS:
                shown.append(_looked_at(results, stage, steps))
        except DamagedError as e:
            results.records.damaged |= e.problems
    return shown, count


def final_picture(results: Results, stage: Stage) -> bytes | None:
    """Samples of a trained network at the end of its training, a PNG file; None where it is not
    trained, or by an earlier version."""
    store = results.records.store
    if not store.done(stage.key):
        return None
    try:
        result = store.result(stage.key)
        return result.content(layout.FINAL_SAMPLES) if result.has(layout.FINAL_SAMPLES) else None
    except DamagedError as e:
        results.records.damaged |= e.problems
        return None


def _looked_at(results: Results, network: Stage, steps: list[int]) -> LookedAt:
    store = results.records.store
    known = {int(score["step"]): score["fid"] for score in fids(store, network.key)}
    looks = []
    for step in _spread(steps):
        picture = look_picture(store, network.key, step)
        if picture is not None:
            looks.append(Look(step, known.get(step), picture))
    return LookedAt(results.records.plan.names[network.key], tuple(looks), len(steps))


def _spread(steps: list[int]) -> list[int]:
    """At most PICTURES of the steps, evenly spread, with the first and the last."""
    if len(steps) <= PICTURES:
        return steps
    return [steps[round(i * (len(steps) - 1) / (PICTURES - 1))] for i in range(PICTURES)]
