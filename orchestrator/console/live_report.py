"""Writes report.html while a sweep runs, from a thread of its own."""

import time
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

from kaccore.files import CorruptFileError
from orchestrator.host.background import Background
from orchestrator.store import layout
from orchestrator.sweeps.records import Records
from orchestrator.sweeps.status import Status
from orchestrator.sweeps.training_fids import fids, look_steps

WRITE_SECONDS = 60.0  # at least, between two reports
SHARE = 0.03  # of the driver's time, at most
TICK_SECONDS = 5.0


class LiveReport(Background):
    """Writes the report of `records` while the context is open: at most every WRITE_SECONDS, and
    only if a stage has finished, a teacher was looked at, or a trial has ended since. A large sweep,
    whose report takes long, gets it less often."""

    def __init__(self, records: Records, seconds: float = WRITE_SECONDS) -> None:
        super().__init__("report")
        self.records = records
        self.seconds = seconds
        self._tick = min(seconds, TICK_SECONDS)
        self._finished: set[str] = set()  # the keys of stages

    def _run(self) -> None:
        with suppress(OSError, CorruptFileError):
            known = self._news()
        next_at = 0.0
        while not self._stop.wait(self._tick):
            if time.monotonic() < next_at:
                continue
            # the storage is unreachable, or a result is damaged: the run itself says so
            with suppress(OSError, CorruptFileError):
                began = time.thread_time()  # what it takes from the driver: waiting takes nothing
                news = self._news()
                if news != known:
                    self._write()
                    known = news
                took = time.thread_time() - began
                next_at = time.monotonic() + max(self.seconds, took / SHARE)

    def _news(self) -> Any:
        """A value that differs when there is something new to show."""
        plan, endings = self.records.state
        store = self.records.store
        stages = {stage.key for stage in plan.stages()}
        self._finished |= {key for key in stages - self._finished if store.done(key)}
        looks = 0
        evaluation = plan.experiment.evaluation
        if evaluation.every is not None or evaluation.every_student is not None:
            trained = {stage.key for trial in plan.trials for stage in trial.chain}
            for key in trained - self._finished:
                looks += len(look_steps(store, key)) + len(fids(store, key))
        statuses = [ending.status for ending in endings]
        return len(self._finished), looks, self.records.paused, statuses

    def _write(self) -> None:
        from orchestrator.reports.page import RELOAD_SECONDS, page

        records = self.records.snapshot()
        done = sum(ending.status == Status.DONE for ending in records.endings)
        state = "Paused" if self.records.paused else "Running"
        written = datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
        note = f"{state}, {done} of {len(records.endings)} trials done, written at {written}. "
        note += f"This page loads itself again every {RELOAD_SECONDS} seconds."
        text = page(records, note)
        if not self._stop.is_set():  # the end writes it without the note
            (records.folder / layout.REPORT).put(text.encode())
