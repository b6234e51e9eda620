"""What has to be said beside numbers that are measured with a data set's own features."""

from collections.abc import Iterator

from kaccore.metrics.features import OWN, OWN_ONLY, standard_number
from orchestrator.plan.plan import Plan
from orchestrator.plan.stage import Stage
from orchestrator.store.layout import ABOUT
from orchestrator.store.stage_result import DamagedError
from orchestrator.store.store import Store


def own_features(plan: Plan, store: Store) -> Iterator[str]:
    """A line for each network of a data set's own that the trials of `plan` are measured with: how
    good it is, where it is trained already, what its numbers compare with, and how to get those
    that compare with others'."""
    for reference in plan.stages(("reference",)):
        for own in reference.parents:
            name = (
                reference.reference_spec.features if own.known else OWN
            )  # of data that are not here nobody knows the key
            data = own.data.name
            known = (
                accuracy(own, store)
                or f"{name}: a small network, to be trained on the images of {data}"
            )
            yield f"{known}; {OWN_ONLY}; {standard_number('evaluation.weights')}"


def accuracy(own: Stage, store: Store) -> str:
    """How much the finished network `own` recognises of what it was not trained on; empty where it
    is not finished, or its result is damaged, which others say."""
    try:
        return str(store.result(own.key).json(ABOUT)["text"]) if store.done(own.key) else ""
    except (DamagedError, KeyError):
        return ""
