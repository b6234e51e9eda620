"""Leases: at most one process works on a stage, and another process takes over when it dies.

A lease is a file work/<key>/lease.<n>, created exclusively. Its holder increments a counter in it
every few seconds: the heartbeat. If a waiting process sees no heartbeat in the newest lease for
STALE_SECONDS *of its own monotonic clock*, the lease is stale, and the process creates lease.<n+1>,
which succeeds for one process only. The former holder finds that file at its next heartbeat, its
workers at their next step, and they stop. No clocks of two hosts are compared, and a rerun has
nothing to clean up. Both times are for a folder; for S3 they are longer by `poll_factor`."""

import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType

from orchestrator.host.background import Background
from orchestrator.store.place import Place
from orchestrator.store.places import Where, place_of

HEARTBEAT_SECONDS = 2.0
STALE_SECONDS = 15.0


class LeaseLostError(RuntimeError):
    """Another process has taken over the lease, because it was stale."""


def newest(folder: Place) -> int:
    """The number of the newest lease on `folder`; 0 where there was none yet."""
    return max(_numbers(folder), default=0)


def _numbers(folder: Place) -> list[int]:
    return [int(p.name.split(".")[1]) for p in folder.find("lease.*")]


def stale_seconds(folder: Place) -> float:
    """After how many seconds without a heartbeat a lease on `folder` is stale."""
    return STALE_SECONDS * folder.poll_factor


def heartbeat_seconds(folder: Place) -> float:
    """The seconds between two heartbeats of a lease on `folder`."""
    return HEARTBEAT_SECONDS * folder.poll_factor


class Lease(Background):
    """A lease, held after `acquire`; as a context manager it sends heartbeats and releases itself.
    `check` raises LeaseLostError once another process has taken over."""

    def __init__(self, path: Place) -> None:
        super().__init__(f"lease-{path.parent.name}")
        self.path, self.lost = path, False
        self.number = int(path.name.split(".")[1])
        self._owner = f"{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex[:8]}"
        self._beats = 0

    def acquire(self) -> bool:
        """Take the lease; False where another process was faster."""
        return self.path.create(self._content("held"))

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        super().__exit__(kind, error, tb)
        if not self.lost:
            with suppress(OSError):  # without the write the lease becomes stale
                self._write("released")

    def is_lost(self) -> bool:
        """Whether another process has taken over."""
        self.lost = self.lost or newest(self.path.parent) > self.number
        return self.lost

    def hand_over(self) -> None:
        """Let a waiting process take the stage over at once; this process's own workers stop as if
        the lease were lost."""
        # an error means that the stage is finished, or the storage refuses; then the lease becomes
        # stale
        with suppress(OSError):
            (self.path.parent / f"lease.{self.number + 1}").create(self._content("released"))

    def check(self) -> None:
        """Raise LeaseLostError where another process has taken over."""
        if self.is_lost():
            raise LeaseLostError(f"{self.path}: taken over by another process")

    def _run(self) -> None:
        """Send heartbeats."""
        while not self._stop.wait(heartbeat_seconds(self.path)):
            try:
                if self.is_lost():
                    return
                self._write("held")
            except FileNotFoundError:
                return  # the stage is finished and its work folder removed
            except OSError:
                # the disk is full or read-only, or the storage unreachable: retry at the next
                # heartbeat; meanwhile the lease may become stale
                continue

    def _write(self, state: str) -> None:
        self._beats += 1
        self.path.rewrite(self._content(state))

    def _content(self, state: str) -> bytes:
        return json.dumps({"state": state, "owner": self._owner, "beat": self._beats}).encode()


def _never() -> bool:
    return False


class StopRequest:
    """Stops the work for a trial: `request`, from another thread, hands the trial's leases over;
    `cancelled` and `paused` ask whether the trial is to end, or begin nothing more for now."""

    def __init__(
        self, cancelled: Callable[[], bool] = _never, paused: Callable[[], bool] = _never
    ) -> None:
        self.paused = paused
        self._cancelled = cancelled
        self._requested = threading.Event()
        self._held: list[Lease] = []

    def add(self, lease: Lease) -> None:
        """Register a lease that is held for the trial."""
        self._held.append(lease)
        if self._requested.is_set():
            lease.hand_over()

    def request(self) -> None:
        """Hand the trial's leases over: its workers stop at their next check."""
        self._requested.set()
        for lease in self._held:
            lease.hand_over()

    def requested(self) -> bool:
        """Whether the trial is to stop."""
        return self._requested.is_set() or self._cancelled()


class LeaseWatch:
    """Tries to take the lease on one stage's `folder`, repeatedly, and remembers when the holder's
    latest heartbeat was seen."""

    def __init__(self, folder: Where) -> None:
        self.folder = place_of(folder)
        self._seen: tuple[str, str] | None = None
        self._since = 0.0

    @property
    def seen(self) -> tuple[str, str] | None:
        """Name and content of the latest lease that was seen; None where there was none."""
        return self._seen

    def observe(self) -> None:
        """Read the newest lease: the time without a heartbeat counts from the first observation."""
        if number := newest(self.folder):
            self._is_free(self.folder / f"lease.{number}")

    def try_take(self) -> Lease | None:
        """A lease on the folder, or None while another process holds one."""
        numbers = _numbers(self.folder)
        number = max(numbers, default=0)
        if number and not self._is_free(self.folder / f"lease.{number}"):
            return None
        lease = Lease(self.folder / f"lease.{number + 1}")
        try:
            if not lease.acquire():
                return None
        except FileNotFoundError:  # meanwhile the stage was finished and its work folder removed
            return None
        for old in numbers:  # older than the newest one: no process looks at them any more
            if old < number:
                (self.folder / f"lease.{old}").unlink(missing_ok=True)
        return lease

    def _is_free(self, path: Place) -> bool:
        """Whether the lease was released, or is stale."""
        try:
            text = path.read_text()
        except FileNotFoundError:
            return False
        if '"released"' in text:
            return True
        now = time.monotonic()
        if self._seen != (path.name, text):
            self._seen, self._since = (path.name, text), now
        return now - self._since > stale_seconds(path)
