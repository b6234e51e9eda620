"""Leases: at most one process works on a stage, and a dead one's work passes on by itself.

A lease is a file work/<key>/lease.<n>, created exclusively, in which its holder raises a counter
every few seconds. A waiter that sees the counter of the newest lease stand still for STALE_SECONDS
*of its own monotonic clock* creates lease.<n+1>, which only one can; the old holder finds it at its
next beat, its workers at their next step, and they give up. No host's clock is compared with
another's, and nothing is left that a rerun must clean up. Both times are a folder's; elsewhere they
are longer, by the `pace` of the place."""

import json
import os
import socket
import threading
import time
import uuid
from contextlib import suppress
from types import TracebackType

from orchestrator.store.place import Place
from orchestrator.store.places import Where, place_of

BEAT_SECONDS = 2.0
STALE_SECONDS = 15.0


class LeaseLostError(RuntimeError):
    """Another process has taken the lease over, since this one seemed dead."""


def newest(folder: Place) -> int:
    """The number of the newest lease on `folder`; 0 where there never was one."""
    return max(_numbers(folder), default=0)


def _numbers(folder: Place) -> list[int]:
    return [int(p.name.split(".")[1]) for p in folder.find("lease.*")]


def stale_seconds(folder: Place) -> float:
    """How long the holder of a lease on `folder` is silent before it is taken for dead."""
    return STALE_SECONDS * folder.pace


def beat_seconds(folder: Place) -> float:
    """How often the holder of a lease on `folder` says that it lives."""
    return BEAT_SECONDS * folder.pace


class Lease:
    """A lease, held once it is `begun`; a context manager that releases it. `check` raises
    LeaseLostError once it is lost."""

    def __init__(self, path: Place) -> None:
        self.path, self.lost = path, False
        self.number = int(path.name.split(".")[1])
        self._owner = f"{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex[:8]}"
        self._beats, self._stop = 0, threading.Event()
        self._thread = threading.Thread(
            target=self._keep, daemon=True, name=f"lease-{path.parent.name}"
        )

    def begun(self) -> bool:
        """Take the lease; False where another was faster."""
        return self.path.create(self._said("held"))

    def __enter__(self) -> "Lease":
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        self._stop.set()
        self._thread.join()
        if not self.lost:
            with suppress(OSError):  # silence does as well
                self._write("released")

    def gone(self) -> bool:
        """Whether somebody took over."""
        self.lost = self.lost or newest(self.path.parent) > self.number
        return self.lost

    def hand_over(self) -> None:
        """Let whoever waits for the stage go on with it at once; this process's own workers stop as
        if it were lost."""
        with suppress(
            OSError
        ):  # the stage is finished, or the storage refuses; and silence does as well
            (self.path.parent / f"lease.{self.number + 1}").create(self._said("released"))

    def check(self) -> None:
        """Raise LeaseLostError where somebody took over."""
        if self.gone():
            raise LeaseLostError(f"{self.path}: taken over by another process")

    def _keep(self) -> None:
        while not self._stop.wait(beat_seconds(self.path)):
            try:
                if self.gone():
                    return
                self._write("held")
            except FileNotFoundError:
                return  # the stage is finished and its work folder gone
            except OSError:
                # full, read-only or out of reach: the next beat tries again, and waiters judge by
                # silence
                continue

    def _write(self, state: str) -> None:
        self._beats += 1
        self.path.rewrite(self._said(state))

    def _said(self, state: str) -> bytes:
        return json.dumps({"state": state, "owner": self._owner, "beat": self._beats}).encode()


class Halt:
    """Another thread's wish that no more be done for a trial: `ask` it, and its leases are handed
    over."""

    def __init__(self) -> None:
        self._asked = threading.Event()
        self._held: list[Lease] = []

    def add(self, lease: Lease) -> None:
        """Note a lease that is held for the trial."""
        self._held.append(lease)
        if self.asked():
            lease.hand_over()

    def ask(self) -> None:
        """Stop what works for the trial as soon as it looks, and leave its stages to others."""
        self._asked.set()
        for lease in self._held:
            lease.hand_over()

    def asked(self) -> bool:
        """Whether the trial is to be stopped."""
        return self._asked.is_set()


class LeaseWatch:
    """Tries to take the lease of one stage's `folder`, again and again, remembering when the holder
    last moved."""

    def __init__(self, folder: Where) -> None:
        self.folder = place_of(folder)
        self._seen: tuple[str, str] | None = None
        self._since = 0.0

    @property
    def seen(self) -> tuple[str, str] | None:
        """The lease that was seen last and what it said; None where there was none."""
        return self._seen

    def look(self) -> None:
        """See whether the holder has moved: its silence counts from the first look on."""
        if number := newest(self.folder):
            self._abandoned(self.folder / f"lease.{number}")

    def try_take(self) -> Lease | None:
        """A lease on the folder, or None while another process holds one."""
        numbers = _numbers(self.folder)
        number = max(numbers, default=0)
        if number and not self._abandoned(self.folder / f"lease.{number}"):
            return None
        lease = Lease(self.folder / f"lease.{number + 1}")
        try:
            if not lease.begun():
                return None
        except (
            FileNotFoundError
        ):  # the stage has been finished, and its work folder removed, in between
            return None
        for old in numbers:  # what everybody has long been past
            if old < number:
                (self.folder / f"lease.{old}").unlink(missing_ok=True)
        return lease

    def _abandoned(self, path: Place) -> bool:
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
