"""The folder of Ray's own files while a run lasts: removed at its end, and those of dead runs with it."""

import shutil
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType

from orchestrator.leases import LeaseWatch


class Scratch:
    """`folder`, made and leased while the context is open. Its neighbours whose lease nobody keeps up any more, what
    killed runs have left, are removed with it."""

    def __init__(self, folder: Path) -> None:
        self.folder, self._held = folder, ExitStack()
        self._neighbours: list[LeaseWatch] = []

    def __enter__(self) -> "Scratch":
        self._neighbours = [LeaseWatch(p) for p in self.folder.parent.glob("*") if p.is_dir()]
        for watch in self._neighbours:
            watch.look()
        self.folder.mkdir(parents=True)
        lease = LeaseWatch(self.folder).try_take()
        assert lease is not None, "the folder is new"
        self._held.enter_context(lease)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        for watch in self._neighbours:
            if watch.try_take() is not None:
                shutil.rmtree(watch.folder, ignore_errors=True)
        shutil.rmtree(self.folder, ignore_errors=True)
        self._held.close()
