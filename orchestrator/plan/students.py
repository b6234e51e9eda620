"""The students of an experiment's `distill` block as stages. Its distiller determines the teacher and
the time grid of each."""

from orchestrator.methods.distiller_kind import FIRST_TEACHER
from orchestrator.plan.specs import Optimise, PairsSpec, StudentSpec
from orchestrator.plan.stage import Stage
from orchestrator.settings.experiment import Experiment


def students(config: Experiment, teacher: Stage) -> dict[int, Stage]:
    """The students by the step counts with which they can be sampled, in the order of training."""
    distill = config.distill
    stages: list[Stage] = []

    def stage_of(number: int) -> Stage:
        return teacher if number == FIRST_TEACHER else stages[number]

    by_count: dict[int, Stage] = {}
    for lesson in distill.lessons():
        settings = distill.optimise() if lesson.optimise is None else lesson.optimise
        optimise = Optimise(steps=lesson.steps, lr=lesson.lr, **settings)
        spec = StudentSpec(lesson.student, optimise, config.seed, config.data.flipped)
        taught_by = stage_of(FIRST_TEACHER if lesson.teacher is None else lesson.teacher)
        parents = [taught_by]
        if lesson.start is not None:
            parents.append(stage_of(lesson.start))
        if lesson.pairs is not None:
            parents.append(Stage(PairsSpec(lesson.pairs, config.seed), (taught_by,), "pairs"))
        stages.append(Stage(spec, tuple(parents), lesson.label))
        by_count |= dict.fromkeys(lesson.counts, stages[-1])
    return by_count
