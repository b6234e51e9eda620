"""A sweep's folder: what was planned, how each trial ended, and the results table made of both and
the store.

sweeps/<name>/<id>/     plan.json, config.yaml, trials.json, results.csv, report.html, figures/*.png, samples/*.png
"""

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

from orchestrator.plan import plan_file
from orchestrator.plan.plan import Plan, Trial
from orchestrator.plan.points import Known
from orchestrator.store import layout
from orchestrator.store.last_run import BEGUN
from orchestrator.store.place import Place
from orchestrator.store.provenance import made_by
from orchestrator.store.stage_result import DamagedError
from orchestrator.store.store import Store, with_remedy
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

NOT_BEGUN = "interrupted before it began"  # why a trial was not started
OF_POINTS = ("w2", "log_likelihood")


@dataclass(frozen=True)
class Ending:
    """How a trial ended in the latest run of its sweep."""

    status: Status = Status.WAITING
    error: str = ""
    mlflow_run_id: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "status", Status(self.status))  # as a file has it, it is a text


class TrialEntry(NamedTuple):
    """A trial, and how it ended."""

    trial: Trial
    ending: Ending


class State(NamedTuple):
    """A plan and the ending of each of its trials, which go together: whoever reads has both from
    one moment."""

    plan: Plan
    endings: tuple[Ending, ...]


class Records:
    """The endings of all trials of a plan, kept in the sweep's folder, and the results table.

    The threads of the driver, the view and the publisher share it. What they read is one value,
    `state`, which is replaced as a whole under a lock and never changed: no reader sees a plan with
    another plan's endings."""

    def __init__(self, plan: Plan, store: Store, endings: Iterable[Ending] = ()) -> None:
        self.state = State(plan, tuple(endings) or (Ending(),) * len(plan.trials))
        self.store = store
        self.earlier: list[
            Known
        ] = []  # what other sweeps have measured, for one that learns from them
        self.began = time.time()  # in seconds since 1970, when this run was
        self.dashboard = ""  # Ray's, of the cluster that runs this, where it has one
        self.begun: set[int] = (
            set()
        )  # the numbers of the trials that Ray Tune has started in this run
        self.lacking = ""  # what of the cluster is not there yet, where the work waits for it
        self.lost = False  # whether what trials are measured by cannot be had, in this run
        self.problem = ""  # why the folder could not be written last, if it could not
        self.damaged: dict[
            str, str
        ] = {}  # by their keys results that were found not to be what was written, and why
        self._aside: set[str] = (
            set()
        )  # the keys of those that were set aside, and not made again by when this was read
        self._lock = threading.RLock()
        self._measured: dict[str, dict[str, Any]] = {}
        self._copied: set[str] = set()  # sample grids that this folder has
        self._saved = (-math.inf, 0.0)  # when it was saved last, and how many seconds that took

    @property
    def plan(self) -> Plan:
        """The plan as it is now; with its endings: `entries`."""
        return self.state.plan

    @property
    def endings(self) -> tuple[Ending, ...]:
        """The endings as they are now; with their trials: `entries`."""
        return self.state.endings

    def entries(self) -> list[TrialEntry]:
        """Every trial with its ending, both of this moment."""
        plan, endings = self.state
        return [
            TrialEntry(trial, ending) for trial, ending in zip(plan.trials, endings, strict=True)
        ]

    def update(self, index: int, **changes: Any) -> None:
        """Change the ending of trial number `index`, such as its `status`."""
        self.update_all(lambda at, ending: replace(ending, **changes) if at == index else ending)

    def update_all(self, changed: Callable[[int, Ending], Ending]) -> None:
        """Replace every ending by what `changed` makes of its trial's number and it."""
        with self._lock:
            plan, endings = self.state
            self.state = State(
                plan, tuple(changed(index, ending) for index, ending in enumerate(endings))
            )

    @property
    def folder(self) -> Place:
        """The sweep's folder."""
        return self.store.root / layout.SWEEPS / self.plan.experiment.name / self.plan.id

    def open(self) -> None:
        """Make the folder with the plan and the configuration; trials that are not done are to be
        run."""
        self.store.open()
        self.began = time.time()
        for name in ("figures", "samples"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        self._write_plan()
        for info in self.plan.datasets():
            self.store.keep_labels(info)
        (self.folder / layout.CONFIG).put(self.plan.experiment.to_yaml().encode())
        self.read_endings()
        sweep = self.plan.experiment.sweep
        over = {
            Status.DONE,
            *([Status.STOPPED] if sweep is not None and sweep.scheduler != "none" else []),
        }
        self.update_all(
            lambda _, e: e if e.status in over else replace(e, status=Status.WAITING, error="")
        )

    def read_endings(self, finished: Container[str] = ()) -> None:
        """How trials ended, as trials.json has it; those whose result is in the store are done,
        whoever ran them. `finished`: keys of results that are known to have been there, and are not
        asked for."""
        try:
            before = [
                (e.pop("key"), Ending(**e))
                for e in json.loads((self.folder / layout.TRIALS).read_text())
            ]
        except (OSError, ValueError, TypeError, KeyError, AttributeError):
            before = []
        plan, self._aside = self.plan, self.store.lost()
        known = [key for key, _ in before] == [trial.key for trial in plan.trials]
        found = [ending for _, ending in before] if known else [Ending()] * len(plan.trials)
        for index, trial in enumerate(plan.trials):
            if (trial.key in finished and self._whole(trial)) or self.finished(trial):
                found[index] = replace(found[index], status=Status.DONE, error="")
            elif found[index].status == Status.DONE:
                found[index] = replace(found[index], status=Status.WAITING)
        with self._lock:
            self.state = State(plan, tuple(found))

    def unfinished(self) -> bool:
        """Whether there is a trial to be run, or one to be drawn."""
        plan, sweep = self.plan, self.plan.experiment.sweep
        wanted = (sweep.num_trials or 0) if plan.grows and sweep is not None else 0
        return (
            any(e.status == Status.WAITING for e in self.endings)
            or len(plan.expansion.points) < wanted
        )

    def choose(self, indices: Container[int], reason: str) -> None:
        """Leave out the trials that are not among `indices`, for `reason`."""

        def left(index: int, ending: Ending) -> Ending:
            out = index not in indices and ending.status == Status.WAITING
            return replace(ending, status=Status.NOT_STARTED, error=reason) if out else ending

        self.update_all(left)

    def give_up(self, reference: str, error: str) -> None:
        """Note as failed, with `error`, every open trial that is measured by the stage `reference`:
        that stage cannot be completed, so nothing is to be trained for them. A plan that grows is
        not drawn from any more."""
        self.lost = True
        lost = {
            t.index
            for t in self.plan.trials
            if t.reference is not None and t.reference.key == reference
        }
        self.update_all(
            lambda i, e: (
                replace(e, status=Status.FAILED, error=error)
                if i in lost and e.status == Status.WAITING
                else e
            )
        )

    def interrupt(self) -> None:
        """End the trials that are still open: those that had begun are interrupted, the others were
        not started."""
        begun = set(self.begun)

        def ended(index: int, ending: Ending) -> Ending:
            if ending.status != Status.WAITING:
                return ending
            if index in begun:
                return replace(ending, status=Status.INTERRUPTED)
            return replace(ending, status=Status.NOT_STARTED, error=NOT_BEGUN)

        self.update_all(ended)

    def interrupted(self) -> bool:
        """Whether the latest run was ended before its trials were."""
        return any(e.status == Status.INTERRUPTED or e.error == NOT_BEGUN for e in self.endings)

    def draw(self) -> list[Trial]:
        """Add one more point to a plan that grows, in the light of what is measured so far: its
        trials, none where there is no new point."""
        plan = self.plan.drawn([*self.earlier, *self._known()])
        if plan is None:
            return []
        fresh = plan.trials[len(self.plan.trials) :]
        endings = tuple(
            Ending(Status.DONE if self.finished(trial) else Status.WAITING) for trial in fresh
        )
        with self._lock:
            self.state = State(plan, self.endings + endings)
        self._write_plan()
        return list(fresh)

    def _known(self) -> list[Known]:
        """Every point with the mean of its trials' metric, None while one of them is not over;
        without failed ones."""
        sweep, by_point = self.plan.experiment.sweep, defaultdict(list)
        assert sweep is not None
        for trial, ending in self.entries():
            by_point[trial.point].append((ending.status, self.measured(trial).get(sweep.metric)))
        known = []
        for number, found in by_point.items():
            values = [value for _, value in found if value is not None]
            over = all(status != Status.WAITING for status, _ in found)
            if values or not over:
                point = self.plan.expansion.points[number]
                known.append(Known(point, fmean(values) if over else None))
        return known

    def finished(self, trial: Trial) -> bool:
        """Whether everything that `trial` is for lies in the store, and nothing that it builds on
        was set aside."""
        return self._whole(trial) and self.store.done(trial.key)

    def _whole(self, trial: Trial) -> bool:
        return self._aside.isdisjoint(stage.key for stage in trial.stages())

    def follow(self, before: "Records") -> None:
        """`read_endings`, of what is looked at again and again: what `before`, of the same store,
        has seen finished and measured is not asked for once more, unless it was set aside."""
        done = {trial.key for trial, ending in before.entries() if ending.status == Status.DONE}
        self.read_endings(done)
        self._measured = {
            key: value for key, value in before._measured.items() if key in done - self._aside
        }

    def end(self, index: int, status: str, error: str = "") -> None:
        """Note how trial number `index` ended; an `error` begins with the label of its stage."""
        self.update(index, status=status, error=self._told_apart(index, error))
        began = time.monotonic()
        if (
            began - self._saved[0] >= 20 * self._saved[1]
        ):  # hundreds of trials are written down now and then, not each
            self.try_save()
            self._saved = (time.monotonic(), time.monotonic() - began)

    def _told_apart(self, index: int, error: str) -> str:
        """`error` with its stage called as in the rest of the sweep, where others have the same
        label."""
        plan = self.plan
        for stage in plan.trials[index].stages():
            if error.startswith(f"{stage.label}: "):
                return plan.names[stage.key] + error.removeprefix(stage.label)
        return error

    def try_save(self) -> None:
        """`save` in the middle of a run: a full or read-only disk is noted in `problem`, and the
        work goes on."""
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
        """One row a trial, the columns of results.csv: of what only points have, those that are
        asked for."""
        asked = self.plan.experiment.evaluation.metrics
        measures = (*MEASURES, *(metric for metric in OF_POINTS if metric in asked))
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
                }
            )
        return rows

    def measured(self, trial: Trial) -> dict[str, Any]:
        """The metrics of a finished evaluation; empty where there is none, and where they are
        `damaged`."""
        if trial.evaluation is None:
            return {}
        key = trial.evaluation.key
        if (
            key not in self._measured
        ):  # read once: what is finished does not change, and hundreds of trials are asked
            if not self.store.done(key):
                return {}
            try:
                self._measured[key] = self.store.result(key).json(layout.METRICS)
                self.damaged.pop(key, None)
            except DamagedError as e:
                self.damaged |= e.problems
                return {}
            except (KeyError, FileNotFoundError):  # set aside in between
                return {}
        return self._measured[key]

    def _samples(self, trial: Trial) -> str:
        """The trial's sample grid in this folder, copied from the store; its path relative to the
        folder."""
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
        """What made this sweep's plan last, as plan.json has it; empty in one of an earlier
        version."""
        return json.loads((self.folder / layout.PLAN).read_text()).get("made_by", {})

    def _write_plan(self) -> None:
        (self.folder / layout.PLAN).put_json(
            {"made_by": made_by(), BEGUN: self.began, **plan_file.to_plain(self.plan)}
        )


def _cell(value: Any) -> Any:
    return json.dumps(value) if isinstance(value, list | dict) or value is None else value
