"""Notes about what numbers are measured with."""

from collections.abc import Iterator

from kaccore.metrics.features import OWN, OWN_ONLY, standard_number
from orchestrator.plan.plan import Plan
from orchestrator.plan.stage import Stage
from orchestrator.store.layout import ABOUT
from orchestrator.store.stage_result import DamagedError
from orchestrator.store.store import Store
from orchestrator.sweeps.records import Records


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


def second_features(records: Records) -> Iterator[str]:
    """A line that names the second features, if a trial is measured with some."""
    measured = [records.measured(trial) for trial in records.plan.trials]
    names = sorted({v["fid_second_features"] for v in measured if "fid_second_features" in v})
    if names:
        yield f"second    fid_second is the FID by {', '.join(names)}: a gain in fid alone may be of its features"


def calibrated(records: Records) -> Iterator[str]:
    """A line that says how many measured trials have images that end on a tone curve."""
    measured = [m for trial in records.plan.trials if (m := records.measured(trial))]
    count = sum("calibrated" in values for values in measured)
    if count:
        which = "all" if count == len(measured) else f"{count} of {len(measured)}"
        yield f"tone      calibrated: {which}: a tone curve gives images the pixel values of the training images"
