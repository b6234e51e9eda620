"""Training images of a sweep's data sets as a network sees them, and how they were changed."""

from typing import NamedTuple

from orchestrator.plan.data import DatasetInfo
from orchestrator.store.layout import REAL
from orchestrator.store.stage_result import DamagedError
from orchestrator.sweeps.records import Records


class Panel(NamedTuple):
    """A data set: its name, its facts, and some of its images as a PNG file; None if no reference
    stage has any."""

    name: str
    info: DatasetInfo
    png: bytes | None


def panels(records: Records) -> list[Panel]:
    """A panel for each data set of the sweep, in the order of the trials."""
    plan = records.plan
    return [
        Panel(plan.data_names[info.fingerprint], info, _png(records, info))
        for info in plan.datasets()
    ]


def _png(records: Records, info: DatasetInfo) -> bytes | None:
    for stage in records.plan.stages(("reference",)):
        if stage.data.fingerprint == info.fingerprint and records.store.done(stage.key):
            try:
                return records.store.result(stage.key).content(REAL)
            except FileNotFoundError:  # an earlier version wrote no images
                continue
            except DamagedError as e:
                records.damaged |= e.problems
    return None
