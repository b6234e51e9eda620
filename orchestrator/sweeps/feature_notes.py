"""Notes for numbers that are measured with a data set's own features."""

from collections.abc import Iterator

from kaccore.metrics.features import OWN, OWN_ONLY, standard_number
from orchestrator.plan.plan import Plan
from orchestrator.plan.stage import Stage
from orchestrator.store.layout import ABOUT
from orchestrator.store.stage_result import DamagedError
from orchestrator.store.store import Store


def own_features(plan: Plan, store: Store) -> Iterator[str]:
    """A line for each network of own features that measures trials of `plan`: its accuracy if it is
    trained, what its numbers compare with, and how to get comparable numbers."""
    for reference in plan.stages(("reference",)):
        for own in reference.parents:
            # without the data the key, which is part of the name, is unknown
            name = reference.reference_spec.features if own.known else OWN
            network = accuracy(own, store)
            if not network:
                data = own.data.name
                network = f"{name}: a small network, to be trained on the images of {data}"
            yield f"{network}; {OWN_ONLY}; {standard_number('evaluation.weights')}"


def accuracy(own: Stage, store: Store) -> str:
    """The accuracy of the finished network `own` on held-out images; empty where it is not finished
    or its result is damaged, which is reported elsewhere."""
    try:
        return str(store.result(own.key).json(ABOUT)["text"]) if store.done(own.key) else ""
    except (DamagedError, KeyError):
        return ""
