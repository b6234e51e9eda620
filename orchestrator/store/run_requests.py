"""What is asked of a run while it continues, as small files in its folder; they end with it.

    ray/<run>/requests/<time>-<random>.json   a request from any terminal, for the driver
    ray/<run>/orders/paused                   orders of the driver: no stage begins, training stops
    ray/<run>/orders/cancelled-<trial>        the coordinator of this trial ends it
    ray/<run>/orders/stop-<stage key>         the worker that trains this stage saves it and stops

Coordinators and workers look for orders wherever they look for a lost lease anyway."""

import json
import math
import secrets
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass

from orchestrator.store import layout
from orchestrator.store.place import Place

CANCEL, PAUSE, RESUME, PRIORITY = "cancel", "pause", "resume", "priority"
PAUSED = "paused"
FRESH_SECONDS = 2.0  # between two listings of the orders; on S3 it is longer


@dataclass(frozen=True)
class Request:
    """A request to a run: CANCEL or PRIORITY of a trial, by its number, PAUSE or RESUME."""

    what: str
    trial: int | None = None


def ask(run: Place, request: Request) -> None:
    """Write `request` for the driver of the run with the folder `run`. Raises FileNotFoundError
    where the run has ended."""
    name = f"{time.time_ns():020d}-{secrets.token_hex(4)}.json"
    (run / layout.REQUESTS / name).put_json(asdict(request))


class Inbox:
    """The requests in a run's folder, for its driver."""

    def __init__(self, run: Place) -> None:
        self._folder = run / layout.REQUESTS
        self._folder.mkdir(parents=True, exist_ok=True)

    def take(self) -> Iterator[Request]:
        """Take out the requests that have come, the oldest first; what is none is ignored."""
        for file in self._folder.find("*.json"):
            text = file.read_text()
            file.unlink(missing_ok=True)
            with suppress(ValueError, TypeError):
                yield Request(**json.loads(text))


class Orders:
    """The orders of a run's driver, in the run's folder."""

    def __init__(self, run: Place) -> None:
        self.folder = run / layout.ORDERS
        self._given = (-math.inf, set[str]())

    def given(self) -> set[str]:
        """The names of the present orders, as they were at most FRESH_SECONDS ago."""
        read, names = self._given
        if time.monotonic() - read > FRESH_SECONDS * self.folder.poll_factor:
            names = {order.name for order in self.folder.find("*")}
            self._given = (time.monotonic(), names)
        return names

    def paused(self) -> bool:
        """Whether the run is paused."""
        return PAUSED in self.given()

    def cancelled(self, trial: int) -> bool:
        """Whether the trial of this number is to end."""
        return cancelled(trial) in self.given()

    def stops(self, key: str) -> bool:
        """Whether the training of the stage `key` is to be saved and stopped."""
        return not self.given().isdisjoint((PAUSED, stopped(key)))

    def change(self, before: Iterable[str], after: Iterable[str]) -> None:
        """Replace the orders `before` by those of `after`."""
        self.folder.mkdir(parents=True, exist_ok=True)
        for name in set(after).difference(before):
            (self.folder / name).put_fast(b"")
        for name in set(before).difference(after):
            (self.folder / name).unlink(missing_ok=True)


def cancelled(trial: int) -> str:
    """The name of the order to end a trial."""
    return f"cancelled-{trial}"


def stopped(key: str) -> str:
    """The name of the order to stop the training of a stage."""
    return f"stop-{key}"
