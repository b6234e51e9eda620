"""Keeps MLflow up with the store while a sweep runs, without ever holding it up."""

import queue
import threading
from typing import Any

from orchestrator.records import Records


class Publisher:
    """Publishes to MLflow from a thread of its own: a slow or dead tracking server does not hold up the work."""

    def __init__(self, records: Records) -> None:
        self.records, self.problem = records, ""
        self._tracker: Any = None
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
        """Publish the rest and end the sweep's run."""
        self.attempt()
        if self._tracker is not None:
            try:
                self._tracker.close(status)
            except Exception as e:
                self.problem = f"{type(e).__name__}: {e}"

    def _run(self) -> None:
        self.attempt()
        while self._wakes.get():
            self.attempt()

    def attempt(self) -> None:
        """Publish what MLflow does not have yet; where that fails `problem` says why."""
        try:
            if self._tracker is None:
                from orchestrator.tracking import Tracker

                self._tracker = Tracker(self.records)
            self._tracker.publish()
            self.problem = ""
        except Exception as e:  # whatever MLflow or its server does, the sweep goes on and the store has it all
            self.problem = f"{type(e).__name__}: {str(e).strip().splitlines()[0] if str(e).strip() else ''}"
