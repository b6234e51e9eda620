"""Whether a sweep is running, has ended, and how: the words of `status` and of Python."""

from collections.abc import Mapping, Sequence

from orchestrator.store.place import Place
from orchestrator.store.run_requests import Orders
from orchestrator.sweeps.inventory import running
from orchestrator.sweeps.records import Records
from orchestrator.sweeps.status import State, Status


def state_of(
    records: Records, running_sweeps: Mapping[str, Sequence[Place]] | None = None
) -> State:
    """The state of the sweep of `records`. `running_sweeps`: the folders of the runs of those that
    run now, by name (name/id); None: they are looked up, which may take some seconds. To be right
    about a sweep that ends in the meantime they are looked up before the records are read."""
    name = records.plan.name
    if running_sweeps is None:
        running_sweeps = running(records.store.root, name)
    if name in running_sweeps:
        return State.PAUSED if is_paused(running_sweeps[name]) else State.RUNNING
    statuses = [ending.status for ending in records.endings]
    # a plan that may still grow is done where nothing is left open: a budget has ended it
    if Status.WAITING in statuses or records.interrupted():
        return State.INTERRUPTED
    return State.FAILED if Status.FAILED in statuses else State.DONE


def is_paused(runs: Sequence[Place]) -> bool:
    """Whether a sweep with these runs, by their folders, is paused: all of them are."""
    return bool(runs) and all(Orders(run).paused() for run in runs)
