"""What training costs, in network evaluations: passes of one image through the network of the chain,
independent of the machine. A forward and a backward pass count as three, a discriminator's passes
together as one."""

from kaccore.nfe import EVALUATIONS
from orchestrator.methods.generated import BACKWARD
from orchestrator.plan.stage import Stage


def passes(stage: Stage) -> float:
    """The cost of a training step of `stage` for each image, in forward passes of the network."""
    return BACKWARD + (0 if stage.student is None else stage.student.passes(EVALUATIONS))


def evaluations(stage: Stage) -> float:
    """The network evaluations of a teacher, a student or pairs, without those of its parents."""
    if stage.kind == "pairs":
        pairs = stage.pairs_spec.pairs
        guided = 2 if pairs.guidance != 1 else 1
        return float(pairs.count * pairs.steps * EVALUATIONS[pairs.solver] * guided)
    return stage.steps * stage.training_spec.optimise.batch_size * passes(stage)


def with_parents(stage: Stage) -> float:
    """The network evaluations of a teacher or student and of all that is trained before it."""
    return sum(evaluations(required) for required in stage.training())
