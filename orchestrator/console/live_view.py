"""What a person sees while a sweep runs: a live table on a terminal, plain lines in a log.

Everything shown is read from the store, where workers leave how far they are; the view can lag but
never disturb."""

import threading
import time
from contextlib import suppress
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from orchestrator.plan.data import WARNING
from orchestrator.plan.stage import TRAINING, Stage
from orchestrator.store import layout
from orchestrator.store.layout import ABOUT
from orchestrator.store.notices import Notice, Notices
from orchestrator.store.stage_result import DamagedError, Result
from orchestrator.sweeps.feature_notes import accuracy
from orchestrator.sweeps.ranking import best_so_far
from orchestrator.sweeps.records import Records
from orchestrator.sweeps.status import Status

LINE_SECONDS, LOOK_SECONDS = 10.0, 0.5
DASHBOARD = "Ray dashboard"
WARNINGS = 3  # in the live table: the last few


class View:
    """Shows the progress of `records` from a thread of its own while the context is open.

    `ours`: it is this process that runs the sweep; to another one all that is finished is done, and
    what an interrupted run said last is as far as a stage is."""

    def __init__(self, records: Records, console: Console, ours: bool = True) -> None:
        self.records, self.console = records, console
        self._trials = -1
        self._name_stages()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True, name="view")
        self._before = {s.key for s in self.stages if ours and records.store.done(s.key)}
        self._said: set[str] = set(self._before)
        self._finished: set[str] = set(
            self._before
        )  # what is finished stays so, and is not asked for again
        # what a killed run said last
        self._left_over = (
            {s.key: records.store.progress(s.key) for s in self.stages} if ours else {}
        )
        self._accuracy: dict[str, str] = {}  # of own features that are finished
        self._notices = Notices(records.store.root)
        self._warned = (
            set(self.warnings()) if ours else set[Notice]()
        )  # said already, by an earlier run
        self._lacked = ""
        self._started = time.monotonic()

    def __enter__(self) -> "View":
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

    def _run(self) -> None:
        every = LOOK_SECONDS * self.records.store.root.poll_factor
        if self.console.is_terminal:
            with Live(
                self.table(), console=self.console, refresh_per_second=4, transient=True
            ) as live:
                while not self._stop.wait(every):
                    with suppress(OSError):  # the storage is out of reach: what was seen last stays
                        self._say_news()  # above the table
                        live.update(self.table())
        else:
            last, said = time.monotonic(), ""
            while not self._stop.wait(every):
                with suppress(OSError):
                    self._say_news()
                    if time.monotonic() - last >= LINE_SECONDS:
                        last = time.monotonic()
                        lines = self._running()
                        for line in lines if lines[-1] != said else lines[:-1]:
                            self._line(line)
                        said = lines[-1]
        with suppress(OSError):
            self._say_news()

    def warnings(self) -> list[Notice]:
        """All warnings about the plan's stages, the oldest first."""
        self._name_stages()
        return self._notices.of(self.names)

    def _name_stages(self) -> None:
        """The stages of all trials, and what each is called, anew where trials have been added."""
        plan = self.records.plan
        if self._trials != len(plan.trials):
            self._trials = len(plan.trials)
            self.stages = list(plan.stages())
            self.names = plan.names
            self._trials_of: dict[str, list[int]] = {}  # by the key of a stage: who needs it
            for trial in plan.trials:
                for stage in trial.stages():
                    self._trials_of.setdefault(stage.key, []).append(trial.index)

    def _line(self, text: str) -> None:
        self.console.print(
            f"[{clock(time.monotonic() - self._started)}] {text}", highlight=False, markup=False
        )

    def _say_news(self) -> None:
        """A line for whatever has not been said yet: warnings, nodes, finished stages."""
        for notice in self.warnings():
            if notice not in self._warned:
                self._warned.add(notice)
                self._line(f"warning: {self.names[notice.key]}: {notice.text}")
                self._look_again(notice.key)
        if self.records.dashboard and DASHBOARD not in self._said:
            self._said.add(DASHBOARD)
            self._line(f"{DASHBOARD}: {self.records.dashboard}")
        if (lacking := self.records.shortage) != self._lacked:
            self._lacked = lacking
            self._line(lacking or "the nodes are there")
        for stage in self.stages:
            if stage.key in self._said or not self._done(stage):
                continue
            self._said.add(stage.key)
            with suppress(KeyError):  # set aside in between
                self._line(
                    f"{self.names[stage.key]}: {_outcome(stage, self.records.store.result(stage.key))}"
                )

    def _look_again(self, key: str) -> None:
        """A finished stage was warned of: it may have been set aside, and is then made again."""
        if not self.records.store.done(key):
            for known in (self._before, self._said, self._finished):
                known.discard(key)

    def _done(self, stage: Stage) -> bool:
        if stage.key not in self._finished and self.records.store.done(stage.key):
            self._finished.add(stage.key)
        return stage.key in self._finished

    def _running(self) -> list[str]:
        """A line for every stage that is worked on, and last one for the trials."""
        stages = [(s, p) for s in self.stages if not self._over(s) and (p := self._progress(s))]
        done = sum(e.status == Status.DONE for e in self.records.endings)
        trials = f"trials: {done} of {len(self.records.endings)} done"
        for status in (Status.FAILED, Status.STOPPED):
            count = sum(e.status == status for e in self.records.endings)
            trials += f", {count} {status}" if count else ""
        return [*(f"{self.names[s.key]}: {describe_progress(p)}" for s, p in stages), trials]

    def _over(self, stage: Stage) -> str:
        """How the trials that need the unfinished `stage` have ended; empty while one of them has
        not."""
        statuses = [self.records.endings[index].status for index in self._trials_of[stage.key]]
        return "" if Status.WAITING in statuses else ", ".join(dict.fromkeys(statuses))

    def _progress(self, stage: Stage) -> dict[str, Any] | None:
        """How far `stage` is; None until somebody works on it."""
        if stage.kind == "evaluation" and not all(map(self._done, stage.parents)):
            return None  # nobody can, and there are hundreds of them to ask for
        progress = self.records.store.progress(stage.key)
        return None if progress is None or progress == self._left_over.get(stage.key) else progress

    def _state(self, stage: Stage) -> str:
        """How far `stage` is, in words; empty for a stage that takes no steps and is not worked
        on."""
        if self._done(stage):
            return "found in the store" if stage.key in self._before else "done"
        over, progress = self._over(stage), self._progress(stage)
        if stage.kind not in TRAINING:
            return describe_progress(progress) if progress and not over else ""
        if progress is None or "step" not in progress:
            return over or (describe_progress(progress) if progress else "waiting")
        said = (
            f"{over} at step {progress['step']} of {progress['steps']}"
            if over
            else describe_progress(progress)
        )
        return f"{bar(progress['step'], progress['steps'])} {said}"

    def table(self, state: str = "") -> Table:
        """How far everything is; `state` stands in the title, by default how long this view has
        been looking."""
        self._name_stages()
        done = sum(e.status == Status.DONE for e in self.records.endings)
        title = f"{self.records.plan.experiment.name}  {done} of {len(self.records.endings)} trials"
        state = state or clock(time.monotonic() - self._started)
        table = Table(title=f"{title}  {state}", title_justify="left", box=None)
        table.add_column("stage", no_wrap=True)
        table.add_column("state", no_wrap=True)
        for stage in self.stages:
            if stage.kind == "features" and self._done(stage):
                if stage.key not in self._accuracy:
                    self._accuracy[stage.key] = accuracy(stage, self.records.store)
                table.add_row(self.names[stage.key], self._accuracy[stage.key])
            elif (stage.kind in TRAINING or not self._done(stage)) and (said := self._state(stage)):
                table.add_row(self.names[stage.key], Text(said))
        kinds = [s for s in self.stages if s.kind == "evaluation"]
        if kinds:
            measured = sum(map(self._done, kinds))
            table.add_row("evaluations", f"{bar(measured, len(kinds))} {measured} of {len(kinds)}")
        for scale, best in best_so_far(self.records).items():
            table.add_row(f"best so far{f', {scale}' * bool(scale)}", best)
        if self.records.dashboard:
            table.add_row(DASHBOARD, self.records.dashboard)
        if self.records.shortage:
            table.add_row("", self.records.shortage)
        for index, ending in enumerate(self.records.endings):
            if ending.status in (Status.FAILED, Status.STOPPED):
                table.add_row(f"trial {index}", Text(f"{ending.status}: {ending.error}"))
        for info in self.records.plan.datasets():
            for note in info.notes:
                if note.startswith(WARNING):
                    table.add_row("data", Text(note.removeprefix(WARNING)))
        warnings = self.warnings()
        for number, notice in enumerate(warnings[-WARNINGS:]):
            name = f"{len(warnings)} warning{'s' * (len(warnings) > 1)}" if number == 0 else ""
            table.add_row(name, Text(f"{self.names[notice.key]}: {notice.text}"))
        return table


def describe_progress(p: dict[str, Any]) -> str:
    """Step, loss, rate and time left of a training stage, or what is done before its first step, in
    one line."""
    if "doing" in p:
        return str(p["doing"])
    parts = [f"step {p['step']} of {p['steps']}"]
    if p["loss"] is not None:
        parts.append(f"loss {p['loss']:.4g}")
    if p.get("fid") is not None:
        parts.append(f"fid {p['fid']:.4g}")
    parts.append(f"{p['images_per_second']:.0f} images/s")
    if p["seconds_left"] is not None:
        parts.append(f"{clock(p['seconds_left'])} left")
    return ", ".join(parts)


def bar(done: int, total: int, width: int = 20) -> str:
    """A progress bar of `width` characters."""
    filled = round(width * done / max(1, total))
    return "━" * filled + "╌" * (width - filled)


def clock(seconds: float) -> str:
    """Seconds as m:ss or h:mm:ss."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"


def _outcome(stage: Stage, result: Result) -> str:
    """How long a finished stage took, and what came of it; or that its files are not what was
    written."""
    try:
        said = [f"done in {result.manifest['seconds']:.0f} s"]
        if stage.kind == "features":
            said.append(result.json(ABOUT)["text"])
        elif stage.kind in TRAINING:
            said.append(f"loss {result.json(layout.LOSSES)[-1]['loss']:.4g}")
        elif stage.kind == "evaluation":
            m = result.json(layout.METRICS)
            said += [f"{k} {m[k]:.4g}" for k in stage.config["metrics"] if k in m]
    except DamagedError as e:
        return f"done, but {e.problems[stage.key]}"
    return ", ".join(said)
