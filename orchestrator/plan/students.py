"""The students of an experiment's `distill` block as stages. Its distiller determines the teacher and
the time grid of each."""

from orchestrator.plan.specs import Optimise, StudentSpec
from orchestrator.plan.stage import Stage
from orchestrator.settings.experiment import Experiment


def students(config: Experiment, teacher: Stage) -> dict[int, Stage]:
    """The students by the step counts with which they can be sampled, in the order of training."""
    distill = config.distill
    stages: list[Stage] = []
    by_count: dict[int, Stage] = {}
    for lesson in distill.lessons():
        optimise = Optimise(steps=lesson.steps, lr=lesson.lr, **distill.optimise())
        spec = StudentSpec(lesson.student, optimise, config.seed, config.data.flipped)
        taught_by = teacher if lesson.teacher is None else stages[lesson.teacher]
        start = () if lesson.start is None else (stages[lesson.start],)
        stages.append(Stage(spec, (taught_by, *start), lesson.label))
        by_count |= dict.fromkeys(lesson.counts, stages[-1])
    return by_count
