"""Publishes the store to MLflow while a sweep runs, without delaying the sweep."""

import queue
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from orchestrator.fields.faults import ConfigError, masked
from orchestrator.store import layout, leases
from orchestrator.sweeps.records import Records
from orchestrator.tracking.hints import database_location_note
from orchestrator.tracking.uri import is_server

RETRY_SECONDS = 10.0


class Publisher:
    """Publishes to MLflow from a thread of its own, so that a slow or dead tracking server does not
    delay the work.

    One process at a time publishes an experiment's runs, under a lease: of two sweeps with the same
    name the later one finds what the earlier one has logged."""

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
                self._publish(lease.number, status)
            self.problem = ""
        except Exception as e:  # the sweep continues whatever MLflow raises: the store has it all
            self._tracker = None  # it may have stopped half-way: read MLflow's state again first
            self.problem = self._failure_text(e)
        return True

    def _publish(self, lease_number: int, status: str | None) -> None:
        others_published = lease_number != self._lease_number + 1
        if self._tracker is None or others_published:
            from orchestrator.tracking.tracker import Tracker

            self._tracker = Tracker(self.records, self.say)
        self._lease_number = lease_number
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
