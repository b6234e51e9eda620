"""Keeps MLflow up with the store while a sweep runs, without ever holding it up."""

import queue
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from orchestrator.fields.faults import ConfigError, masked
from orchestrator.store import layout, leases
from orchestrator.sweeps.records import Records
from orchestrator.tracking.hints import kept_elsewhere
from orchestrator.tracking.uri import is_server

AGAIN_SECONDS = 10.0


class Publisher:
    """Publishes to MLflow from a thread of its own: a slow or dead tracking server does not hold up
    the work.

    One process at a time publishes an experiment's runs, under a lease: of two sweeps of one name
    the later finds what the earlier has logged."""

    def __init__(self, records: Records, say: Callable[[str], None] = print) -> None:
        self.records = records
        self.problem = ""
        self.say = say
        self._tracker: Any = None
        self.turns = records.store.root / layout.PUBLISHING / records.plan.experiment.name
        self._watch = leases.LeaseWatch(self.turns)
        self._turn = 0  # the number of the lease under which the tracker last looked at MLflow
        self._wakes: queue.SimpleQueue[bool] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, daemon=True, name="publisher")

    def __enter__(self) -> "Publisher":
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._wakes.put(False)
        self._thread.join()

    def wake(self) -> None:
        """There is something new."""
        self._wakes.put(True)

    def finish(self, status: str) -> None:
        """Publish the rest and end the sweep's run, waiting for others who publish."""
        until = time.monotonic() + 2 * leases.stale_seconds(self.turns)
        while not self.attempt(status):
            if time.monotonic() > until:
                self.problem = "another process has been publishing all the while"
                return
            time.sleep(leases.heartbeat_seconds(self.turns) / 4)

    def attempt(self, status: str | None = None) -> bool:
        """Publish what MLflow does not have yet, and with `status` end the sweep's run; where that
        fails `problem` says why. False where another process is publishing at the moment."""
        try:
            self.turns.mkdir(parents=True, exist_ok=True)
            lease = self._watch.try_take()
            if lease is None:
                return False
            with lease:
                self._publish(lease.number, status)
            self.problem = ""
        except (
            Exception
        ) as e:  # whatever MLflow or its server does, the sweep goes on and the store has it all
            self._tracker = (
                None  # it may have stopped half-way: look at what is there before going on
            )
            self.problem = self._explained(e)
        return True

    def _publish(self, turn: int, status: str | None) -> None:
        if (
            self._tracker is None or turn != self._turn + 1
        ):  # another process may have published since
            from orchestrator.tracking.tracker import Tracker

            self._tracker = Tracker(self.records, self.say)
        self._turn = turn
        self._tracker.publish()
        if status is not None:
            self._tracker.close(status)

    def _run(self) -> None:
        for line in self._foreseen():
            self.say(line)
        while (
            self._woken()
        ):  # not at once: importing MLflow would hold up the start of Ray by seconds
            self.attempt()

    def _foreseen(self) -> Iterator[str]:
        """What can be said before there is anything to publish. Only for a server MLflow is
        imported so early."""
        if line := kept_elsewhere(self.records):
            yield line
        uri = self.records.plan.experiment.tracking.uri
        if uri is not None and is_server(uri):
            from orchestrator.tracking.client import quieten
            from orchestrator.tracking.server import problem

            quieten()
            if what := problem(uri):
                after = "the run goes on, and can be published when this is mended"
                yield f"tracking.uri: got {masked(uri)}: {what}; {after}"

    def _explained(self, error: Exception) -> str:
        """Why publishing failed, in one line, with the remedy where one is known."""
        uri = self.records.plan.experiment.tracking.uri
        if isinstance(error, ConfigError):
            return str(error)
        if uri is not None and is_server(uri):
            from orchestrator.tracking.server import explained

            if what := explained(error, uri):
                return f"{masked(uri)}: {what}"
        said = masked(str(error)).strip()
        return f"{type(error).__name__}: {said.splitlines()[0] if said else ''}"

    def _woken(self) -> bool:
        """Wait until there is something new, or AGAIN_SECONDS: stages finish, and servers come
        back, without a word. False at the end."""
        try:
            return self._wakes.get(timeout=AGAIN_SECONDS)
        except queue.Empty:
            return True
