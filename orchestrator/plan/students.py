"""What students an experiment's `distill` block means: which stages, who teaches whom, and on which
grids."""

from itertools import pairwise
from typing import Any

from orchestrator.plan.stage import Stage, stated
from orchestrator.settings.experiment import Experiment

CHAINS = (
    "endpoint",
    "progressive",
)  # a student for each step count; the other distillers train one for them all


def students(config: Experiment, teacher: Stage) -> dict[int, Stage]:
    """The students by their step counts, in the order in which they are trained."""
    if config.distill.kind in CHAINS:
        return _chain(config, teacher)
    only = _only(config, teacher)
    return dict.fromkeys(step_counts(config), only)


def student_for(config: Experiment, teacher: Stage, steps: int) -> Stage:
    """The student that is sampled in `steps` steps."""
    return (
        students(config, teacher)[steps]
        if config.distill.kind in CHAINS
        else _only(config, teacher)
    )


def step_counts(config: Experiment) -> list[int]:
    """How many steps the students may be sampled with."""
    if config.distill.kind == "consistency":
        return list(range(1, config.distill.teacher_steps + 1))
    return [1] if config.distill.kind == "inverse" else list(config.distill.intervals)


def intervals_text(config: Experiment) -> str:
    """The distillation as text: 100-20-4-2-1, or what its kind has in place of a chain."""
    distill = config.distill
    if distill.kind == "consistency":
        return f"{distill.teacher_steps}-any"
    if distill.kind == "inverse":
        return "1"
    before = 2 * distill.intervals[0] if distill.kind == "progressive" else distill.teacher_steps
    return "-".join(str(n) for n in (before, *distill.intervals))


def _chain(config: Experiment, teacher: Stage) -> dict[int, Stage]:
    distill = config.distill
    found = {}
    before = teacher
    first = 2 * distill.intervals[0] if distill.kind == "progressive" else distill.teacher_steps
    for i, (count, intervals) in enumerate(pairwise((first, *distill.intervals))):
        by_teacher = i == 0 or not distill.chained
        content: dict[str, Any] = {
            "distiller": distill.kind,
            "intervals": intervals,
            "substeps": (first if by_teacher else count) // intervals,
            "solver": distill.teacher_solver
            if by_teacher
            else "euler",  # a student is integrated on its own grid
            "guidance": distill.guidance
            if by_teacher
            else 1.0,  # and carries its teacher's guidance already
            "target": distill.target,
            "huber": distill.huber,
            "start": distill.start if i else "previous",
            "flip": config.data.flip,
            "optimise": _optimise(config, _at(distill.steps, i), _at(distill.lr, i)),
            "seed": config.seed,
        }
        if distill.times is not None:
            content["times"] = list(distill.times[:: distill.intervals[0] // intervals])
            content["inner"] = (
                None if by_teacher else list(distill.times[:: distill.intervals[0] // count])
            )
        origin = teacher if by_teacher else before
        start = (before,) if distill.start == "previous" and before is not origin else ()
        label = (
            f"student {intervals}"
            if distill.kind == "endpoint"
            else f"student {distill.kind} {intervals}"
        )
        before = found[intervals] = Stage("student", stated(content), (origin, *start), label)
    return found


def _only(config: Experiment, teacher: Stage) -> Stage:
    distill = config.distill
    steps = sum(
        _at(distill.steps, i) for i in range(len(distill.intervals))
    )  # the training of a whole chain
    content: dict[str, Any] = {
        "distiller": distill.kind,
        "guidance": distill.guidance,
        "huber": distill.huber,
        "flip": config.data.flip,
        "optimise": _optimise(config, steps, _at(distill.lr, 0)),
        "seed": config.seed,
    }
    if distill.kind == "consistency":
        content |= {"intervals": distill.teacher_steps, "solver": distill.teacher_solver}
    return Stage("student", stated(content), (teacher,), f"student {distill.kind}")


def _optimise(config: Experiment, steps: int, lr: float) -> dict[str, Any]:
    shared = (
        "batch_size",
        "ema",
        "schedule",
        "restarts",
        "warmup",
        "clip",
        "accumulate",
        "precision",
    )
    return stated({"steps": steps, "lr": lr, **{k: getattr(config.distill, k) for k in shared}})


def _at(value: Any, index: int) -> Any:
    return value[index] if isinstance(value, list | tuple) else value
