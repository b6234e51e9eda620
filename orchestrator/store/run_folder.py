"""What a run leaves in the store while it lasts: removed at its end, and what dead runs have left
with it."""

import time
from contextlib import ExitStack
from types import TracebackType

from orchestrator.store.leases import LeaseWatch, beat_seconds
from orchestrator.store.places import Where, place_of


class RunFolder:
    """`folder`, made and leased while the context is open: the sign that `sweep` (name/id) is being
    run. Its neighbours whose lease nobody keeps up any more, what killed runs have left, are
    removed with it."""

    def __init__(self, folder: Where, sweep: str) -> None:
        self.folder = place_of(folder)
        self.sweep = sweep
        self._held = ExitStack()
        self._neighbours: list[LeaseWatch] = []

    def __enter__(self) -> "RunFolder":
        self._neighbours = [LeaseWatch(p) for p in self.folder.parent.find("*") if p.is_dir()]
        for watch in self._neighbours:
            watch.look()
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
        # first: a beat during the removal would put a file into a folder that is to be empty
        self._held.close()
        for watch in self._neighbours:
            if watch.try_take() is not None:
                watch.folder.clear()
        self.folder.clear()


def clear_after_the_dead(parent: Where) -> None:
    """Remove what killed runs have left in `parent`, for a run that has nothing to do and so no
    scratch of its own. Waits until each holder of a lease there has moved, or has been silent for
    so long that it is dead."""
    watches = [LeaseWatch(p) for p in place_of(parent).find("*") if p.is_dir()]
    for watch in watches:
        watch.look()
    unsure = [(watch, watch.seen) for watch in watches if watch.seen is not None]
    while unsure:
        time.sleep(beat_seconds(place_of(parent)) / 4)
        for watch, seen in list(unsure):
            dead = watch.try_take() is not None
            if dead:
                watch.folder.clear()
            if dead or watch.seen != seen or not watch.folder.is_dir():
                unsure.remove((watch, seen))
