"""The folder of a run in the store. The end of a run removes it, and the folders of killed runs
too."""

import time
from contextlib import ExitStack
from types import TracebackType

from orchestrator.store.leases import LeaseWatch, heartbeat_seconds
from orchestrator.store.places import Where, place_of


class RunFolder:
    """`folder`, created and leased while the context is open: it shows that `sweep` (name/id) is
    running. The end of the context removes it, and the neighbouring folders whose lease is stale:
    those of killed runs."""

    def __init__(self, folder: Where, sweep: str) -> None:
        self.folder = place_of(folder)
        self.sweep = sweep
        self._held = ExitStack()
        self._neighbours: list[LeaseWatch] = []

    def __enter__(self) -> "RunFolder":
        self._neighbours = [LeaseWatch(p) for p in self.folder.parent.find("*") if p.is_dir()]
        for watch in self._neighbours:
            watch.observe()
        self.folder.mkdir(parents=True)
        lease = LeaseWatch(self.folder).try_take()
        assert lease is not None, "the folder is new"
        self._held.enter_context(lease)
        (self.folder / "sweep.json").put_json({"sweep": self.sweep})
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        # first: a heartbeat during the removal would write a file into the folder
        self._held.close()
        for watch in self._neighbours:
            if watch.try_take() is not None:
                watch.folder.clear()
        self.folder.clear()


def remove_stale(parent: Where) -> None:
    """Remove the folders of killed runs in `parent`, for a run that has nothing to do and no
    RunFolder of its own. Waits until each lease there has shown a heartbeat or is stale."""
    watches = [LeaseWatch(p) for p in place_of(parent).find("*") if p.is_dir()]
    for watch in watches:
        watch.observe()
    undecided = [(watch, watch.seen) for watch in watches if watch.seen is not None]
    while undecided:
        time.sleep(heartbeat_seconds(place_of(parent)) / 4)
        for watch, seen in list(undecided):
            stale = watch.try_take() is not None
            if stale:
                watch.folder.clear()
            if stale or watch.seen != seen or not watch.folder.is_dir():
                undecided.remove((watch, seen))
