"""The progress of a running sweep: a live table on a terminal, plain lines in a log.

The view reads everything from the store, into which workers write their progress. It may lag, but
cannot disturb the run."""

import time
from contextlib import suppress
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from orchestrator.host.background import Background
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

LINE_SECONDS = 10.0  # between progress lines in a log
POLL_SECONDS = 0.5
DASHBOARD = "Ray dashboard"
WARNINGS = 3  # how many of the latest warnings the live table shows


class View(Background):
    """Shows the progress of `records` from a thread of its own while the context is open.

    `ours`: this process runs the sweep. Then stages that were finished before are shown as found in
    the store, and progress and warnings of earlier runs are not shown."""

    def __init__(self, records: Records, console: Console, ours: bool = True) -> None:
        super().__init__("view")
        self.records, self.console = records, console
        self._trials = -1
        self._name_stages()
        store = records.store
        # keys of stages: finished before this run, reported on a line, and known to be finished
        self._before = {s.key for s in self.stages if store.done(s.key)} if ours else set[str]()
        self._reported = set(self._before)
        self._finished = set(self._before)
        # the last progress of a killed run
        self._old_progress = {s.key: store.progress(s.key) for s in self.stages} if ours else {}
        # the accuracy of finished own features
        self._accuracy: dict[str, str] = {}
        self._notices = Notices(store.root)
        # warnings that were printed by this run or given in an earlier one
        self._printed_warnings = set(self.warnings()) if ours else set[Notice]()
        # the latest shortage of nodes that was printed
        self._printed_shortage = ""
        # how many messages about requests were printed
        self._printed_said = 0
        self._started = time.monotonic()

    def _run(self) -> None:
        interval = POLL_SECONDS * self.records.store.root.poll_factor
        if self.console.is_terminal:
            self._run_table(interval)
        else:
            self._run_lines(interval)
        with suppress(OSError):
            self._print_news()

    def _run_table(self, interval: float) -> None:
        with Live(self.table(), console=self.console, refresh_per_second=4, transient=True) as live:
            while not self._stop.wait(interval):
                with suppress(OSError):  # the storage is unreachable: the last table stays
                    self._print_news()  # above the table
                    live.update(self.table())

    def _run_lines(self, interval: float) -> None:
        last_time, last_summary = time.monotonic(), ""
        while not self._stop.wait(interval):
            with suppress(OSError):
                self._print_news()
                if time.monotonic() - last_time >= LINE_SECONDS:
                    last_time = time.monotonic()
                    *lines, summary = self._progress_lines()
                    for line in lines:
                        self._line(line)
                    if summary != last_summary:
                        self._line(summary)
                    last_summary = summary

    def warnings(self) -> list[Notice]:
        """All warnings about the plan's stages, the oldest first."""
        self._name_stages()
        return self._notices.of(self.names)

    def _name_stages(self) -> None:
        """Update the stages and their names if the plan has grown."""
        plan = self.records.plan
        if self._trials != len(plan.trials):
            self._trials = len(plan.trials)
            self.stages = list(plan.stages())
            self.names = plan.names
            # for each stage's key the trials that need it
            self._trials_of: dict[str, list[int]] = {}
            for trial in plan.trials:
                for stage in trial.stages():
                    self._trials_of.setdefault(stage.key, []).append(trial.index)

    def _line(self, text: str) -> None:
        elapsed = clock(time.monotonic() - self._started)
        self.console.print(f"[{elapsed}] {text}", highlight=False, markup=False)

    def _print_news(self) -> None:
        """A line for everything new: warnings, missing nodes, finished stages."""
        for notice in self.warnings():
            if notice not in self._printed_warnings:
                self._printed_warnings.add(notice)
                self._line(f"warning: {self.names[notice.key]}: {notice.text}")
                self._forget_if_set_aside(notice.key)
        if self.records.dashboard and DASHBOARD not in self._reported:
            self._reported.add(DASHBOARD)
            self._line(f"{DASHBOARD}: {self.records.dashboard}")
        shortage = self.records.shortage
        if shortage != self._printed_shortage:
            self._printed_shortage = shortage
            self._line(shortage or "all nodes have joined")
        for text in self.records.said[self._printed_said :]:
            self._printed_said += 1
            self._line(text)
        for stage in self.stages:
            if stage.key in self._reported or not self._done(stage):
                continue
            self._reported.add(stage.key)
            with suppress(KeyError):  # set aside meanwhile
                outcome = _outcome(stage, self.records.store.result(stage.key))
                self._line(f"{self.names[stage.key]}: {outcome}")

    def _forget_if_set_aside(self, key: str) -> None:
        """After a warning about a stage: if its result was set aside, it will run again."""
        if not self.records.store.done(key):
            for keys in (self._before, self._reported, self._finished):
                keys.discard(key)

    def _done(self, stage: Stage) -> bool:
        if stage.key not in self._finished and self.records.store.done(stage.key):
            self._finished.add(stage.key)
        return stage.key in self._finished

    def _progress_lines(self) -> list[str]:
        """A line for every stage that is running, and last a summary of the trials."""
        lines = []
        for stage in self.stages:
            progress = None if self._over(stage) else self._progress(stage)
            if progress:
                lines.append(f"{self.names[stage.key]}: {progress_text(progress)}")
        statuses = [ending.status for ending in self.records.endings]
        summary = f"trials: {statuses.count(Status.DONE)} of {len(statuses)} done"
        for status in (Status.FAILED, Status.STOPPED, Status.CANCELLED):
            if status in statuses:
                summary += f", {statuses.count(status)} {status}"
        summary += ", paused" if self.records.paused else ""
        return [*lines, summary]

    def _over(self, stage: Stage) -> str:
        """The statuses of the trials that need the unfinished `stage`; empty while one of them is
        waiting or running."""
        statuses = [self.records.endings[index].status for index in self._trials_of[stage.key]]
        return "" if Status.WAITING in statuses else ", ".join(dict.fromkeys(statuses))

    def _progress(self, stage: Stage) -> dict[str, Any] | None:
        """The progress of `stage`; None until it is running."""
        if stage.kind == "evaluation" and not all(map(self._done, stage.parents)):
            return None  # it cannot run yet; saves reading the progress of hundreds of them
        progress = self.records.store.progress(stage.key)
        return None if progress == self._old_progress.get(stage.key) else progress

    def _state(self, stage: Stage) -> str:
        """The state of `stage` as a text; empty for a stage without steps that is not running."""
        if self._done(stage):
            return "found in the store" if stage.key in self._before else "done"
        over, progress = self._over(stage), self._progress(stage)
        if stage.kind not in TRAINING:
            return progress_text(progress) if progress and not over else ""
        if progress is None:
            return over or "waiting"
        if "step" not in progress:
            return over or progress_text(progress)
        step, steps = progress["step"], progress["steps"]
        text = f"{over} at step {step} of {steps}" if over else progress_text(progress)
        return f"{bar(step, steps)} {text}"

    def table(self, state: str = "") -> Table:
        """The progress of all stages; the title has `state`, by default the time since this view
        was created."""
        self._name_stages()
        done = sum(e.status == Status.DONE for e in self.records.endings)
        title = f"{self.records.plan.experiment.name}  {done} of {len(self.records.endings)} trials"
        state = state or clock(time.monotonic() - self._started)
        state += "  paused" if self.records.paused and "paused" not in state else ""
        table = Table(title=f"{title}  {state}", title_justify="left", box=None)
        table.add_column("stage", no_wrap=True)
        table.add_column("state", no_wrap=True)
        self._add_stages(table)
        for scale, best in best_so_far(self.records).items():
            table.add_row(f"best so far, {scale}" if scale else "best so far", best)
        if self.records.dashboard:
            table.add_row(DASHBOARD, self.records.dashboard)
        if self.records.shortage:
            table.add_row("", self.records.shortage)
        for index, ending in enumerate(self.records.endings):
            if ending.status in (Status.FAILED, Status.STOPPED, Status.CANCELLED):
                table.add_row(f"trial {index}", Text(f"{ending.status}: {ending.error}"))
        self._add_warnings(table)
        return table

    def _add_stages(self, table: Table) -> None:
        for stage in self.stages:
            done = self._done(stage)
            if stage.kind == "features" and done:
                if stage.key not in self._accuracy:
                    self._accuracy[stage.key] = accuracy(stage, self.records.store)
                table.add_row(self.names[stage.key], self._accuracy[stage.key])
            elif stage.kind in TRAINING or not done:
                state = self._state(stage)
                if state:
                    table.add_row(self.names[stage.key], Text(state))
        evaluations = [stage for stage in self.stages if stage.kind == "evaluation"]
        if evaluations:
            count, total = sum(map(self._done, evaluations)), len(evaluations)
            table.add_row("evaluations", f"{bar(count, total)} {count} of {total}")

    def _add_warnings(self, table: Table) -> None:
        for info in self.records.plan.datasets():
            for note in info.notes:
                if note.startswith(WARNING):
                    table.add_row("data", Text(note.removeprefix(WARNING)))
        warnings = self.warnings()
        heading = "1 warning" if len(warnings) == 1 else f"{len(warnings)} warnings"
        for number, notice in enumerate(warnings[-WARNINGS:]):
            text = Text(f"{self.names[notice.key]}: {notice.text}")
            table.add_row(heading if number == 0 else "", text)


def progress_text(progress: dict[str, Any]) -> str:
    """Step, loss, rate and time left of a training stage in one line, or what it does before its
    first step."""
    if "doing" in progress:
        return str(progress["doing"])
    parts = [f"step {progress['step']} of {progress['steps']}"]
    if progress["loss"] is not None:
        parts.append(f"loss {progress['loss']:.4g}")
    if progress.get("fid") is not None:
        parts.append(f"fid {progress['fid']:.4g}")
    parts.append(f"{progress['images_per_second']:.0f} images/s")
    if progress.get("workers", 1) > 1:
        parts.append(f"{progress['workers']} workers")
    if progress["seconds_left"] is not None:
        parts.append(f"{clock(progress['seconds_left'])} left")
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
    """The time that a finished stage took, with its loss, accuracy or metrics; or how it is
    damaged."""
    try:
        parts = [f"done in {result.manifest['seconds']:.0f} s"]
        if stage.kind == "features":
            parts.append(result.json(ABOUT)["text"])
        elif stage.kind in TRAINING and stage.steps:
            parts.append(f"loss {result.json(layout.LOSSES)[-1]['loss']:.4g}")
        elif stage.kind == "evaluation":
            metrics = result.json(layout.METRICS)
            names = [name for name in sorted(stage.evaluation_spec.metrics) if name in metrics]
            parts += [f"{name} {metrics[name]:.4g}" for name in names]
    except DamagedError as e:
        return f"done, but {e.problems[stage.key]}"
    return ", ".join(parts)
