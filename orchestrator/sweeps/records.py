"""A sweep's folder: its plan, how each trial ended, and the results table.

sweeps/<name>/<id>/     plan.json, config.yaml, plugins/*.py, trials.json, results.csv, report.html, figures/*.png,
                        samples/*.png
"""

import copy
import csv
import io
import json
import math
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Container, Iterable
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Any, NamedTuple

from orchestrator.fields.schema import leaves
from orchestrator.plan import cost, plan_file
from orchestrator.plan.plan import Plan, Trial
from orchestrator.plan.points import Known
from orchestrator.settings.experiment import Experiment
from orchestrator.store import layout
from orchestrator.store.last_run import BEGUN
from orchestrator.store.place import Place
from orchestrator.store.provenance import made_by
from orchestrator.store.stage_result import DamagedError
from orchestrator.store.store import Store, with_remedy
from orchestrator.sweeps import kept_plugins
from orchestrator.sweeps.status import Status

MEASURES = (
    "nfe",
    "fid",
    "fid_features",
    "kid",
    "precision",
    "recall",
    "seconds_per_image",
    "kinetic_path_energy",
)

COMMAND = "command"  # the key in plan.json
NOT_BEGUN = "interrupted before it began"  # why a trial was not started
OF_POINTS = ("w2", "log_likelihood")
# the last columns of results.csv: by a second extractor, and what training took
SECOND = ("fid_second", "fid_second_features", "fid_of_real")
TRAINING_NFE = "training_nfe"
# blocks of settings that change no result: where and how it is computed
NOT_OF_RESULTS = ("name", "storage", "plugins", "checkpoint", "cluster", "tracking", "sweep")


@dataclass(frozen=True)
class Ending:
    """How a trial ended in the latest run of its sweep."""

    status: Status = Status.WAITING
    error: str = ""
    mlflow_run_id: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "status", Status(self.status))  # from a file it is a str


class TrialEntry(NamedTuple):
    """A trial, and how it ended."""

    trial: Trial
    ending: Ending


class State(NamedTuple):
    """A plan and the ending of each of its trials, at one moment."""

    plan: Plan
    endings: tuple[Ending, ...]


class Records:
    """The endings of all trials of a plan, kept in the sweep's folder, and the results table.

    The threads of the driver, the view and the publisher share it. They read one value, `state`,
    which is immutable and replaced under a lock: no reader sees a plan with another plan's
    endings."""

    def __init__(self, plan: Plan, store: Store, endings: Iterable[Ending] = ()) -> None:
        self.state = State(plan, tuple(endings) or (Ending(),) * len(plan.trials))
        self.store = store
        # points of other sweeps, for `sweep.learn_from`
        self.earlier: list[Known] = []
        # the command line that runs it; empty where it was started from Python
        self.started_by = ""
        # when this run began, in seconds since 1970
        self.began = time.time()
        # the URL of Ray's dashboard, where the cluster has one
        self.dashboard = ""
        # the numbers of the trials that Ray Tune has started in this run
        self.started: set[int] = set()
        # whether the run is paused by a request
        self.paused = False
        # what became of requests in this run, one message each
        self.said: list[str] = []
        # the numbers of the trials that the run before has cancelled, and that this one takes up
        self.taken_up: list[int] = []
        # the nodes that the run is waiting for, as a message; empty where it is not waiting
        self.shortage = ""
        # whether the reference features of a trial have failed in this run
        self.reference_failed = False
        # why the latest write to the folder failed; empty where it succeeded
        self.problem = ""
        # damaged results: by key, what is wrong
        self.damaged: dict[str, str] = {}
        # keys of results that had been set aside, and not replaced, when the endings were read
        self._set_aside: set[str] = set()
        self._lock = threading.RLock()
        self._measured: dict[str, dict[str, Any]] = {}
        self._resampled: dict[str, dict[str, list[float]]] = {}
        self._finished_seconds: dict[str, float] = {}
        # whether it is a snapshot, to which no measurement is added
        self._fixed = False
        # the sample grids that are in this folder
        self._copied: set[str] = set()
        # whether a trial has ended since it was last saved
        self._unsaved = False
        # when it was last saved (monotonic), and how many seconds that took
        self._saved = (-math.inf, 0.0)

    @property
    def plan(self) -> Plan:
        """The present plan; for a consistent pair with the endings: `entries`."""
        return self.state.plan

    @property
    def endings(self) -> tuple[Ending, ...]:
        """The present endings; for a consistent pair with the plan: `entries`."""
        return self.state.endings

    def entries(self) -> list[TrialEntry]:
        """Every trial with its ending, at one moment."""
        plan, endings = self.state
        return [
            TrialEntry(trial, ending) for trial, ending in zip(plan.trials, endings, strict=True)
        ]

    def snapshot(self) -> "Records":
        """What is known at this moment, for a reader that asks more than once: plan, endings and
        measurements stay as they are, even if a stage finishes meanwhile. The snapshot of a snapshot
        is itself."""
        if self._fixed:
            return self
        found = copy.copy(self)
        for trial in found.plan.trials:
            self.measured(trial)
        found._measured, found._fixed = dict(self._measured), True
        return found

    def update(self, index: int, **changes: Any) -> None:
        """Change the ending of trial number `index`, such as its `status`."""
        self.update_all(lambda at, ending: replace(ending, **changes) if at == index else ending)

    def update_all(self, changed: Callable[[int, Ending], Ending]) -> None:
        """Replace every ending by `changed(index of its trial, ending)`."""
        with self._lock:
            plan, endings = self.state
            new_endings = tuple(changed(index, ending) for index, ending in enumerate(endings))
            self.state = State(plan, new_endings)

    @property
    def folder(self) -> Place:
        """The sweep's folder."""
        return self.store.root / layout.SWEEPS / self.plan.name

    def open(self) -> None:
        """Create the folder with the plan and the configuration, and set trials that are not over
        to waiting."""
        self.store.open()
        self.began = time.time()
        for name in ("figures", "samples"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        self._write_plan()
        for info in self.plan.datasets():
            self.store.keep_labels(info)
        (self.folder / layout.CONFIG).put(self.plan.experiment.to_yaml().encode())
        kept_plugins.write(self.folder, self.plan.experiment)
        self.read_endings()
        sweep = self.plan.experiment.sweep
        over = {Status.DONE}
        if sweep is not None and sweep.scheduler != "none":
            over.add(Status.STOPPED)
        self.taken_up = [t.index for t, e in self.entries() if e.status == Status.CANCELLED]
        self.update_all(
            lambda _, e: e if e.status in over else replace(e, status=Status.WAITING, error="")
        )

    def read_endings(self, finished: Container[str] = ()) -> None:
        """Read how trials ended from trials.json. Trials whose result is in the store are done,
        no matter which run made it; the store is not asked for the keys `finished`."""
        plan, self._set_aside = self.plan, self.store.lost_keys()
        endings = self._read_trials_file() or [Ending()] * len(plan.trials)
        for index, trial in enumerate(plan.trials):
            known_done = trial.key in finished and self._nothing_set_aside(trial)
            if known_done or self.finished(trial):
                endings[index] = replace(endings[index], status=Status.DONE, error="")
            elif endings[index].status == Status.DONE:
                endings[index] = replace(endings[index], status=Status.WAITING)
        with self._lock:
            self.state = State(plan, tuple(endings))

    def _read_trials_file(self) -> list[Ending]:
        """The endings in trials.json; empty where it is missing, damaged, or of another plan."""
        try:
            rows = json.loads((self.folder / layout.TRIALS).read_text())
            keys = [row.pop("key") for row in rows]
            endings = [Ending(**row) for row in rows]
        except (OSError, ValueError, TypeError, KeyError, AttributeError):
            return []
        return endings if keys == [trial.key for trial in self.plan.trials] else []

    def unfinished(self) -> bool:
        """Whether there is a trial to run, or the plan is to grow."""
        if any(ending.status == Status.WAITING for ending in self.endings):
            return True
        plan, sweep = self.plan, self.plan.experiment.sweep
        if not plan.grows or sweep is None:
            return False
        return len(plan.expansion.points) < (sweep.num_trials or 0)

    def skip_all_but(self, indices: Container[int], reason: str) -> None:
        """Set the waiting trials that are not among `indices` to not started, for `reason`."""

        def changed(index: int, ending: Ending) -> Ending:
            if index in indices or ending.status != Status.WAITING:
                return ending
            return replace(ending, status=Status.NOT_STARTED, error=reason)

        self.update_all(changed)

    def fail_measured_by(self, reference: str, error: str) -> None:
        """Set every waiting trial that is measured by the stage with the key `reference` to failed:
        that stage has failed, so nothing is to be trained for them. The plan does not grow any
        more."""
        self.reference_failed = True
        trials = self.plan.trials
        failed = {t.index for t in trials if reference in {s.key for s in t.measured_by()}}

        def changed(index: int, ending: Ending) -> Ending:
            if index not in failed or ending.status != Status.WAITING:
                return ending
            return replace(ending, status=Status.FAILED, error=error)

        self.update_all(changed)

    def fail_waiting(self, error: str) -> None:
        """Set every waiting trial to failed: `error` has ended the whole run."""

        def changed(_: int, ending: Ending) -> Ending:
            if ending.status != Status.WAITING:
                return ending
            return replace(ending, status=Status.FAILED, error=error)

        self.update_all(changed)

    def interrupt(self) -> None:
        """End the waiting trials: those that had started are interrupted, the others not
        started."""
        started = set(self.started)

        def changed(index: int, ending: Ending) -> Ending:
            if ending.status != Status.WAITING:
                return ending
            if index in started:
                return replace(ending, status=Status.INTERRUPTED)
            return replace(ending, status=Status.NOT_STARTED, error=NOT_BEGUN)

        self.update_all(changed)

    def interrupted(self) -> bool:
        """Whether the latest run was interrupted before its trials were over."""
        return any(e.status == Status.INTERRUPTED or e.error == NOT_BEGUN for e in self.endings)

    def grow(self) -> list[Trial]:
        """Add one point to a plan that grows, chosen from the metrics so far; returns its trials,
        none where there is no new point."""
        plan = self.plan.drawn([*self.earlier, *self._known()])
        if plan is None:
            return []
        new_trials = plan.trials[len(self.plan.trials) :]
        endings = tuple(
            Ending(Status.DONE if self.finished(trial) else Status.WAITING) for trial in new_trials
        )
        with self._lock:
            self.state = State(plan, self.endings + endings)
        self._write_plan()
        return list(new_trials)

    def _known(self) -> list[Known]:
        """Every point with the means of the metrics over its trials, None while one of them is not
        over; without points all of whose trials have failed."""
        sweep = self.plan.experiment.sweep
        assert sweep is not None
        values: dict[int, list[list[Any]]] = defaultdict(list)
        waiting = set()
        for trial, ending in self.entries():
            row = [self.measured(trial).get(name) for name in sweep.objectives]
            values[trial.point] += [] if None in row else [row]
            if ending.status == Status.WAITING:
                waiting.add(trial.point)
        known = []
        for number, rows in values.items():
            point = self.plan.expansion.points[number]
            if number in waiting:
                known.append(Known(point, None))
            elif rows:
                known.append(Known(point, tuple(map(fmean, zip(*rows, strict=True)))))
        return known

    def finished(self, trial: Trial) -> bool:
        """Whether the final result of `trial` is in the store, and the result of none of its stages
        was set aside."""
        return self._nothing_set_aside(trial) and self.store.done(trial.key)

    def _nothing_set_aside(self, trial: Trial) -> bool:
        return self._set_aside.isdisjoint(stage.key for stage in trial.stages())

    def reread(self, before: "Records") -> None:
        """`read_endings` for a sweep that is read repeatedly: results that `before`, earlier
        records of the same sweep, has found are not read again, unless they were set aside."""
        done = {trial.key for trial, ending in before.entries() if ending.status == Status.DONE}
        self.read_endings(done)
        unchanged = done - self._set_aside
        self._measured = {k: value for k, value in before._measured.items() if k in unchanged}

    def end(self, index: int, status: str, error: str = "") -> None:
        """Record how trial number `index` ended; an `error` begins with the label of its stage."""
        self.update(index, status=status, error=self._with_unique_name(index, error))
        self._unsaved = True
        self.save_pending()

    def save_pending(self) -> None:
        """Save the endings since the latest save, at once or, where it would take more than 5 % of
        the time, at a later call."""
        began = time.monotonic()
        saved_at, duration = self._saved
        if self._unsaved and began - saved_at >= 20 * duration:
            self._unsaved = False
            self.try_save()
            self._saved = (time.monotonic(), time.monotonic() - began)

    def _with_unique_name(self, index: int, error: str) -> str:
        """`error` with the name of its stage that is unique in the sweep, instead of the label."""
        plan = self.plan
        for stage in plan.trials[index].stages():
            if error.startswith(f"{stage.label}: "):
                return plan.names[stage.key] + error.removeprefix(stage.label)
        return error

    def try_save(self) -> None:
        """`save` during a run: an error, such as a full or read-only disk, is kept in `problem`,
        and the run continues."""
        try:
            self.save()
            self.problem = ""
        except OSError as e:
            self.problem = with_remedy(e)

    def save(self) -> None:
        """Write trials.json and results.csv, and copy the trials' sample grids."""
        (self.folder / layout.TRIALS).put_json(
            [{"key": t.key, **vars(e)} for t, e in self.entries()]
        )
        rows = self.rows()
        text = io.StringIO()
        writer = csv.DictWriter(
            text, fieldnames=list(rows[0] if rows else ("trial", "status")), lineterminator="\n"
        )
        writer.writeheader()
        writer.writerows(rows)
        (self.folder / layout.RESULTS).put(text.getvalue().encode())

    def rows(self) -> list[dict[str, Any]]:
        """The rows of results.csv, one a trial. Metrics that exist for data of points only are
        columns if `evaluation.metrics` has them."""
        selected = self.plan.experiment.evaluation.metrics
        measures = (*MEASURES, *(metric for metric in OF_POINTS if metric in selected))
        rows = []
        for trial, ending in self.entries():
            measured = self.measured(trial)
            rows.append(
                {
                    "trial": trial.index,
                    "status": ending.status,
                    **{k: _cell(v) for k, v in trial.overrides.items()},
                    **{k: measured.get(k, "") for k in measures},
                    "seed": trial.config.seed,
                    "mlflow_run_id": ending.mlflow_run_id,
                    "samples": self._samples(trial) if measured else "",
                    "error": ending.error,
                    **{k: measured.get(k, "") for k in SECOND},
                    TRAINING_NFE: round(cost.with_parents(trial.chain[-1])),
                }
            )
        return self._with_the_rest(rows)

    def _with_the_rest(self, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """`rows` with further columns at their end: the other measures, the seconds of training, the
        keys of the stages, and the settings that were not swept."""
        entries = self.entries()
        measured = [self.measured(trial) for trial, _ in entries]
        others = sorted(
            {name for found in measured for name, value in found.items() if _plain(value)}
        )
        settings = [trial.config.flat() for trial, _ in entries]
        keys = [
            key
            for key in leaves(Experiment)
            if key.partition(".")[0] not in NOT_OF_RESULTS and any(key in own for own in settings)
        ]
        for row, (trial, _), found, own in zip(rows, entries, measured, settings, strict=True):
            seconds = sum(self._seconds(stage.key) for stage in trial.chain[-1].training())
            row |= {name: found.get(name, "") for name in others if name not in row}
            row["training_seconds"] = round(seconds, 1)
            row["teacher_stage"] = trial.chain[0].key
            row["network_stage"] = trial.chain[-1].key
            row["evaluation_stage"] = "" if trial.evaluation is None else trial.evaluation.key
            row |= {key: _cell(own[key]) if key in own else "" for key in keys if key not in row}
        return rows

    def _seconds(self, key: str) -> float:
        """The seconds of work on a stage; those of a finished one are read once."""
        if key in self._finished_seconds:
            return self._finished_seconds[key]
        seconds = self.store.seconds(key)
        if self.store.done(key):
            self._finished_seconds[key] = seconds
        return seconds

    def measured(self, trial: Trial) -> dict[str, Any]:
        """The metrics of a finished evaluation; empty where there is none or it is damaged."""
        if trial.evaluation is None:
            return {}
        key = trial.evaluation.key
        if key in self._measured:  # read once, since finished results do not change
            return self._measured[key]
        if self._fixed or not self.store.done(key):
            return {}
        try:
            self._measured[key] = self.store.result(key).json(layout.METRICS)
        except DamagedError as e:
            self.damaged |= e.problems
            return {}
        except (KeyError, FileNotFoundError):  # set aside meanwhile
            return {}
        self.damaged.pop(key, None)
        return self._measured[key]

    def resampled(self, trial: Trial) -> dict[str, list[float]]:
        """The measures of resampled images of a finished evaluation, by name; empty where it has
        none or is damaged."""
        key = trial.key
        if key not in self._resampled:
            try:
                result = self.store.result(key)
                known = result.has(layout.BOOTSTRAP)
                self._resampled[key] = result.json(layout.BOOTSTRAP) if known else {}
            except DamagedError as e:
                self.damaged |= e.problems
                return {}
            except (KeyError, FileNotFoundError):  # set aside meanwhile
                return {}
        return self._resampled[key]

    def _samples(self, trial: Trial) -> str:
        """Copy the trial's sample grid from the store into this folder; its path relative to the
        folder, empty where the result is damaged."""
        name = f"samples/trial-{trial.index:03d}.png"
        if name not in self._copied:
            if not (self.folder / name).exists():
                try:
                    (self.folder / name).put(self.store.result(trial.key).content(layout.SAMPLES))
                except DamagedError as e:
                    self.damaged |= e.problems
                    return ""
            self._copied.add(name)
        return name

    def made_by(self) -> dict[str, str]:
        """The provenance of this sweep's latest run, from plan.json; empty where an earlier version
        wrote it."""
        return json.loads((self.folder / layout.PLAN).read_text()).get("made_by", {})

    def command(self) -> str:
        """The command line of this sweep's latest run, from plan.json, for any machine; empty where
        Python code or an earlier version ran it."""
        return str(json.loads((self.folder / layout.PLAN).read_text()).get(COMMAND, ""))

    def _write_plan(self) -> None:
        facts = {"made_by": made_by(), BEGUN: self.began, COMMAND: self.started_by}
        (self.folder / layout.PLAN).put_json({**facts, **plan_file.to_plain(self.plan)})


def _plain(value: Any) -> bool:
    """Whether a measure is a single number or text."""
    return isinstance(value, int | float | str)


def _cell(value: Any) -> Any:
    return json.dumps(value) if isinstance(value, list | dict) or value is None else value
