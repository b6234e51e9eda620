"""Publishes the store to MLflow while a sweep runs, without delaying the sweep."""

import math
import queue
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from orchestrator.fields.faults import ConfigError, masked
from orchestrator.store import layout, leases
from orchestrator.store.folder import Folder
from orchestrator.sweeps.records import Records
from orchestrator.tracking.hints import database_location_note
from orchestrator.tracking.shared_copy import COPY_SECONDS, SharedCopy, shared_copy
from orchestrator.tracking.uri import embedded, is_server

RETRY_SECONDS = 10.0


class Publisher:
    """Publishes to MLflow from a thread of its own, so that a slow or dead tracking server does not
    delay the work.

    One process at a time publishes an experiment's runs, under a lease: of two sweeps with the same
    name the later one finds what the earlier one has logged. Where the database cannot be in the
    store, the store gets a copy of it every few minutes and at the end."""

    def __init__(self, records: Records, say: Callable[[str], None] = print) -> None:
        self.records = records
        self.problem = ""
        # MLflow's id of the experiment; empty before anything was published
        self.experiment_id = ""
        self.say = say
        self._tracker: Any = None
        self.lease_folder = records.store.root / layout.PUBLISHING / records.plan.experiment.name
        self._lease_watch = leases.LeaseWatch(self.lease_folder)
        self._lease_number = 0  # of the lease under which the tracker last read from MLflow
        self._copy = _copy_of(records)
        self._version = 0  # of the database when the tracker last read from it
        self._copied = -math.inf  # when the store last got a copy
        if self._copy is not None:
            self._copy_watch = leases.LeaseWatch(self._copy.folder)
        self._wakes: queue.SimpleQueue[bool] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, daemon=True, name="publisher")

    def __enter__(self) -> "Publisher":
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._wakes.put(False)
        self._thread.join()

    def wake(self) -> None:
        """Signal that there is something new to publish."""
        self._wakes.put(True)

    def finish(self, status: str) -> None:
        """Publish the rest and end the sweep's run; wait while another process publishes."""
        until = time.monotonic() + 2 * leases.stale_seconds(self.lease_folder)
        while not self.attempt(status):
            if time.monotonic() > until:
                self.problem = "another process kept publishing: publish again when it has ended"
                return
            time.sleep(leases.heartbeat_seconds(self.lease_folder) / 4)

    def attempt(self, status: str | None = None) -> bool:
        """Publish what MLflow does not have yet, and with `status` end the sweep's run. If that fails,
        `problem` says why. Returns False while another process is publishing."""
        try:
            self.lease_folder.mkdir(parents=True, exist_ok=True)
            lease = self._lease_watch.try_take()
            if lease is None:
                return False
            with lease:
                if not self._publish(lease.number, status):
                    return False
            self.problem = ""
        except Exception as e:  # the sweep continues whatever MLflow raises: the store has it all
            self._tracker = None  # it may have stopped half-way: read MLflow's state again first
            self.problem = self._failure_text(e)
        return True

    def _publish(self, lease_number: int, status: str | None) -> bool:
        """Returns False while another process makes the copy in the store that is needed now."""
        others_published = lease_number != self._lease_number + 1
        if others_published:
            self._tracker = None
        self._lease_number = lease_number
        if self._copy is None:
            self._track(status)
            return True
        with self._copy.alone():
            due = status is not None or time.monotonic() - self._copied >= COPY_SECONDS
            lease = self._take_copy_lease() if due else None
            if lease is None:
                if status is not None:
                    return False
                self._track_here(status)
                return True
            with lease:
                self._copy.take_over()
                self._track_here(status)
                lease.check()
                self._copy.replace()
            self._version, self._copied = self._copy.version(), time.monotonic()
        return True

    def _take_copy_lease(self) -> leases.Lease | None:
        assert self._copy is not None
        self._copy.folder.mkdir(parents=True, exist_ok=True)
        return self._copy_watch.try_take()

    def _track_here(self, status: str | None) -> None:
        """Publish to this machine's database, which a process may have replaced by another machine's
        copy."""
        assert self._copy is not None
        if self._copy.version() != self._version:
            self._tracker = None
        self._track(status)
        self._version = self._copy.version()

    def _track(self, status: str | None) -> None:
        if self._tracker is None:
            from orchestrator.tracking.tracker import Tracker

            self._tracker = Tracker(self.records, self.say)
        self.experiment_id = self._tracker.experiment
        self._tracker.publish()
        if status is not None:
            self._tracker.close(status)

    def _run(self) -> None:
        for line in self._early_notes():
            self.say(line)
        while self._wait():  # not at once: importing MLflow would delay the start of Ray by seconds
            self.attempt()

    def _early_notes(self) -> Iterator[str]:
        """What is known before there is anything to publish. MLflow is imported this early only if
        a server is set."""
        if line := database_location_note(self.records):
            yield line
        uri = self.records.plan.experiment.tracking.uri
        if uri is not None and is_server(uri):
            from orchestrator.tracking.client import quieten
            from orchestrator.tracking.server import problem

            quieten()
            if what := problem(uri):
                after = "the run continues; publish it when this is fixed"
                yield f"tracking.uri: got {masked(uri)}: {what}; {after}"

    def _failure_text(self, error: Exception) -> str:
        """Why publishing failed, in one line, with the remedy if one is known."""
        uri = self.records.plan.experiment.tracking.uri
        if isinstance(error, ConfigError):
            return str(error)
        if uri is not None and is_server(uri):
            from orchestrator.tracking.server import explain_request_error

            if what := explain_request_error(error, uri):
                return f"{masked(uri)}: {what}"
        lines = masked(str(error)).strip().splitlines()
        return f"{type(error).__name__}: {lines[0] if lines else ''}"

    def _wait(self) -> bool:
        """Wait for `wake`, at most RETRY_SECONDS: stages finish, and servers come back, without a
        signal. Returns False at the end."""
        try:
            return self._wakes.get(timeout=RETRY_SECONDS)
        except queue.Empty:
            return True


def _copy_of(records: Records) -> SharedCopy | None:
    """The copy in the store of the database that a sweep publishes to; None where it needs none."""
    root = records.store.root
    if records.plan.experiment.tracking.uri is not None or not isinstance(root, Folder):
        return None
    return shared_copy(root, embedded(root))
