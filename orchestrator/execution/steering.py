"""What the driver does about requests from other terminals: it cancels trials, starts one before
others, pauses and resumes."""

import queue
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from orchestrator.store import run_requests
from orchestrator.store.place import Place
from orchestrator.store.run_requests import Inbox, Orders, Request
from orchestrator.sweeps.records import Records, State
from orchestrator.sweeps.status import Status

REQUEST_SECONDS = 2.0  # between two looks for requests in a folder; on S3 it is longer
BY_REQUEST = "by status --cancel"


class Steering:
    """Carries out the requests in the folder of a run. All but the reading happens in the thread of
    Ray Tune's loop, in `apply`.

    A trial that has begun is cancelled by its coordinator, one that has not at once. Training that
    no other trial needs is saved and stopped; training that others need continues, in the worker group
    of the cancelled trial."""

    def __init__(self, records: Records, run: Place) -> None:
        self.paused = False
        # the numbers of the trials that Ray Tune got, and of those that it is to get first
        self.given: set[int] = set()
        self.first: list[int] = []
        self._records = records
        self._inbox, self._orders = Inbox(run), Orders(run)
        self._seconds = REQUEST_SECONDS * run.poll_factor
        self._requests: queue.SimpleQueue[Request] = queue.SimpleQueue()
        self._cancelled: set[int] = set()
        self._ordered: set[str] = set()  # the orders in the run's folder
        # the state of the trials, and what was asked, from which they follow
        self._state: State | None = None
        self._asked = (False, 0)

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Read the requests in a thread of its own while the context is open, so that a slow storage
        does not delay Ray Tune."""
        end = threading.Event()

        def listen() -> None:
            while not end.wait(self._seconds):
                with suppress(OSError):  # the storage is unreachable: later
                    for request in self._inbox.take():
                        self._requests.put(request)

        thread = threading.Thread(target=listen, daemon=True, name="requests")
        thread.start()
        try:
            yield
        finally:
            end.set()
            thread.join()

    def apply(self) -> None:
        """Carry out the requests that have come, and save how trials have ended."""
        self._records.save_pending()
        while not self._requests.empty():
            self._records.said.append(self._carry_out(self._requests.get()))
        asked = (self.paused, len(self._cancelled))
        if self._records.state is self._state and asked == self._asked:
            return
        state = self._records.state
        wanted = self._wanted()
        with suppress(OSError):  # again at the next turn
            if wanted != self._ordered:
                self._orders.change(self._ordered, wanted)
                self._ordered = wanted
            self._state, self._asked = state, asked

    def is_cancelled(self, trial: int) -> bool:
        """Whether the trial of this number was cancelled in this run."""
        return trial in self._cancelled

    def _carry_out(self, request: Request) -> str:
        """Do what is asked; says what was done, or why nothing."""
        if request.what in (run_requests.PAUSE, run_requests.RESUME):
            self.paused = self._records.paused = request.what == run_requests.PAUSE
            return PAUSED if self.paused else RESUMED
        trial, endings = request.trial, self._records.endings
        if not isinstance(trial, int) or not 0 <= trial < len(endings):
            return f"ignored a request that this version does not know: {request}"
        if endings[trial].status != Status.WAITING or self.is_cancelled(trial):
            status = Status.CANCELLED if self.is_cancelled(trial) else endings[trial].status
            return f"trial {trial} is {status} already"
        if request.what == run_requests.CANCEL:
            return self._cancel(trial)
        if request.what == run_requests.PRIORITY:
            if trial in self.given:
                return f"trial {trial} has begun already"
            self.first = [trial, *(other for other in self.first if other != trial)]
            return f"trial {trial} starts next"
        return f"ignored a request that this version does not know: {request}"

    def _cancel(self, trial: int) -> str:
        self._cancelled.add(trial)
        if trial in self.given:
            return f"trial {trial} is being cancelled"
        self._records.end(trial, Status.CANCELLED, BY_REQUEST)
        return f"trial {trial} is cancelled"

    def _wanted(self) -> set[str]:
        """The orders that follow from what was asked."""
        orders = {run_requests.PAUSED} if self.paused else set()
        if not self._cancelled:
            return orders
        orders |= {run_requests.cancelled(trial) for trial in self._cancelled}
        needed, unneeded = set[str](), set[str]()
        for trial, ending in self._records.entries():
            keys = {stage.key for stage in trial.chain}
            if self.is_cancelled(trial.index):
                unneeded |= keys
            elif ending.status == Status.WAITING:
                needed |= keys
        return orders | {run_requests.stopped(key) for key in unneeded - needed}


PAUSED = "paused: training was saved and stops, sampling and measuring end, and nothing else begins"
RESUMED = "resumed"
