"""Samples of the teachers during their training, and of each network at its end, as the report shows
them."""

from dataclasses import dataclass

from orchestrator.plan.stage import Stage
from orchestrator.reports.aggregates import Results
from orchestrator.store import layout
from orchestrator.store.stage_result import DamagedError
from orchestrator.sweeps.teacher_fids import fids, look_picture, look_steps

# each picture adds some tens of kilobytes to the page
TEACHERS = 8
PICTURES = 12  # of a teacher


@dataclass(frozen=True)
class Look:
    """Samples of a teacher after `step`, a PNG file, and its FID then, if that is known."""

    step: int
    fid: float | None
    picture: bytes


@dataclass(frozen=True)
class LookedAt:
    """A teacher with what is shown of the `count` looks at it."""

    name: str
    looks: tuple[Look, ...]
    count: int


def teachers(results: Results) -> tuple[list[LookedAt], int]:
    """The teachers that were looked at during their training, those of the best trials first, at
    most TEACHERS; and how many there are."""
    ranked = dict.fromkeys(t.chain[0] for group in results.groups for t in group.trials)
    shown: list[LookedAt] = []
    count = 0
    for teacher in ranked:
        try:
            steps = look_steps(results.records.store, teacher.key)
            count += bool(steps)
            if steps and len(shown) < TEACHERS:
                shown.append(_looked_at(results, teacher, steps))
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


def _looked_at(results: Results, teacher: Stage, steps: list[int]) -> LookedAt:
    store = results.records.store
    known = {int(score["step"]): score["fid"] for score in fids(store, teacher.key)}
    looks = []
    for step in _spread(steps):
        picture = look_picture(store, teacher.key, step)
        if picture is not None:
            looks.append(Look(step, known.get(step), picture))
    return LookedAt(results.records.plan.names[teacher.key], tuple(looks), len(steps))


def _spread(steps: list[int]) -> list[int]:
    """At most PICTURES of the steps, evenly spread, with the first and the last."""
    if len(steps) <= PICTURES:
        return steps
    return [steps[round(i * (len(steps) - 1) / (PICTURES - 1))] for i in range(PICTURES)]
