"""A sweep that was run: its verdict, its results as data frames, and its networks."""

import html
import math
import os
from typing import TYPE_CHECKING, Any

from orchestrator.fields.faults import ConfigError, Fault, describe
from orchestrator.fields.options import named_as_arguments
from orchestrator.networks.locate import locate, sweep_folder
from orchestrator.notebook.network import Network, load_run
from orchestrator.notebook.plain import plain
from orchestrator.plan.plan import short_key
from orchestrator.store import layout
from orchestrator.sweeps import opening
from orchestrator.sweeps.differences import side_by_side
from orchestrator.sweeps.intervals import Interval
from orchestrator.sweeps.records import Records
from orchestrator.sweeps.state import state_of
from orchestrator.sweeps.status import State
from orchestrator.sweeps.verdict import Verdict, verdicts

if TYPE_CHECKING:
    import pandas as pd


class Text(str):
    """A text that shows itself as it is, line for line."""

    def __repr__(self) -> str:
        return str(self)


class Run:
    """A run of an experiment, as its folder has it: `open` reads it, `sweep` returns it."""

    def __init__(self, records: Records, state: State | None = None) -> None:
        """`records`: those of the folder. `state`: that of the run; None: it is looked up when it is
        asked for."""
        self._records = records
        self._state = state

    @property
    def name(self) -> str:
        """The name of the sweep, under which commands find it: name/id."""
        return self._records.plan.name

    @property
    def folder(self) -> str:
        """The folder with report.html, results.csv, config.yaml and figures."""
        return str(self._records.folder)

    @property
    def status(self) -> str:
        """running, done, failed (a trial has an error), or interrupted, as the command `status` says
        it; when it is first asked for. `open` it again for the present state of one that runs."""
        if self._state is None:
            self._state = state_of(self._records)
            if self._state == State.INTERRUPTED:  # or it has ended since it was opened
                self._records = opening.records_of(self._records.folder, self._records)
                self._state = state_of(self._records, running_sweeps={})
        return str(self._state)

    @property
    def config(self) -> Text:
        """All settings of the experiment, as its file."""
        return Text(self._records.plan.experiment.to_yaml())

    @property
    def report(self) -> str:
        """The file of the report."""
        return str(self._records.folder / layout.REPORT)

    @property
    def verdicts(self) -> list[Verdict]:
        """The verdict on each scale, with its numbers and intervals."""
        with named_as_arguments():
            return verdicts(self._records)

    @property
    def verdict(self) -> Text:
        """The verdict: for each number of steps the best setting, with its interval."""
        lines = [line for found in self.verdicts for line in found.lines()]
        return Text("\n".join(lines) or "nothing is measured yet")

    @property
    def results(self) -> "pd.DataFrame":
        """One row a trial, the columns of results.csv: how it ended, the swept settings, all
        measures, the time and cost of its training, the keys of its stages, all other settings."""
        import pandas as pd

        rows = [
            {name: None if value in ("", "null") else value for name, value in row.items()}
            for row in self._records.rows()
        ]
        return pd.DataFrame(rows).set_index("trial")

    @named_as_arguments()
    def versus(self, key: str, reference: Any, *, metric: str | None = None) -> "pd.DataFrame":
        """Where does a value of the swept setting `key` help? Each measured setting against the one
        that differs from it in `key` alone and has `reference` there: a row a setting, with the ratio
        of the `metric` (default: the sweep's; the difference, where it is not a distance), its 95 %
        interval, the same by the second features, and `result`: better or worse (by each feature
        extractor), tie, "features disagree", or unknown without intervals. Intervals are of one
        comparison each: of 100 ties 5 are told apart by chance. Raises ValueError for a key, a value or
        a metric that the sweep does not have."""
        import pandas as pd

        from orchestrator.sweeps.versus import versus

        rows = []
        for found in versus(self._records, key, plain(reference), metric):
            second = found.second_ratio or Interval(math.nan)
            rows.append(
                {
                    **found.others,
                    short_key(key): found.value,
                    "measure": found.measure.value,
                    **_bounds("ratio", found.ratio),
                    **_bounds("second_ratio", second),
                    "result": found.result,
                    "trials": found.trials,
                }
            )
        return pd.DataFrame(rows)

    @property
    def stages(self) -> "pd.DataFrame":
        """One row a stage, by its key: what it is, whether it is done, and the seconds it took."""
        import pandas as pd

        records = self._records
        rows = [
            {
                "key": stage.key,
                "name": records.plan.names[stage.key],
                "kind": str(stage.kind),
                "done": records.store.done(stage.key),
                "seconds": records.store.seconds(stage.key),
            }
            for stage in records.plan.stages()
        ]
        return pd.DataFrame(rows, columns=["key", "name", "kind", "done", "seconds"]).set_index(
            "key"
        )

    @property
    def losses(self) -> "pd.DataFrame":
        """The loss curves of all finished trainings, a row a point: the stage's key and name, the
        step, and the loss there."""
        return self._curves(layout.LOSSES, ["step", "loss", "lr"])

    @property
    def fids(self) -> "pd.DataFrame":
        """The FIDs of networks during their training (`evaluation.every`, `evaluation.every_student`),
        a row a measurement."""
        return self._curves(layout.FIDS, ["step", "fid"])

    @named_as_arguments()
    def best(
        self, *, steps: int | None = None, model: str | None = None, solver: str | None = None
    ) -> Network:
        """The network of the best setting: the lowest mean of the sweep's metric over the seeds
        (highest, where the sweep says so), among those with these `steps`, of this `model` (teacher
        or student) and `solver`. Of several seeds the first. Raises ValueError if none is measured."""
        given = {"steps": steps, "model": model, "solver": solver}
        wanted = {name: plain(value) for name, value in given.items() if value is not None}
        best = self._best_trial(wanted)
        if best is None:
            raise ConfigError([Fault(self.name, "", self._not_measured(wanted))])
        return self.trial(best)

    @named_as_arguments()
    def trial(self, number: int) -> Network:
        """The network of trial `number`, sampled as it was measured; of a run of `train` the
        teacher."""
        given = {"model": "teacher"} if self._records.plan.goal == "teacher" else {}
        return load_run(locate(f"{self.folder}:{number}"), given)

    def _not_measured(self, wanted: dict[str, Any]) -> str:
        """Why there is no best network."""
        samplings = [trial.config.sampling for trial in self._measured()]
        if not samplings:
            return "nothing is measured yet: trial(0) is a network that is trained"
        named = ", ".join(f"{name} {describe(value)}" for name, value in wanted.items())
        known = dict.fromkeys(f"{s.model} {s.solver} {s.steps}" for s in samplings)
        return (
            f"no measured trial with {named}; there are (model, solver, steps) {', '.join(known)}"
        )

    def _measured(self) -> list[Any]:
        from orchestrator.sweeps.ranking import metric_of

        metric, _ = metric_of(self._records)
        trials = self._records.plan.trials
        return [t for t in trials if self._records.measured(t).get(metric) is not None]

    def _best_trial(self, wanted: dict[str, Any]) -> int | None:
        from orchestrator.sweeps.ranking import best_setting

        chosen = {
            trial.index
            for trial in self._measured()
            if all(getattr(trial.config.sampling, name) == v for name, v in wanted.items())
        }
        best = best_setting(self._records, chosen)
        return min((trial.index for trial in best), default=None)

    def _curves(self, name: str, columns: list[str]) -> "pd.DataFrame":
        import pandas as pd

        records = self._records
        rows = []
        for stage in records.plan.stages():
            if not records.store.done(stage.key):
                continue
            result = records.store.result(stage.key)
            for point in result.json(name) if result.has(name) else ():
                rows.append({"key": stage.key, "name": records.plan.names[stage.key], **point})
        return pd.DataFrame(rows, columns=None if rows else ["key", "name", *columns])

    def __repr__(self) -> str:
        return f"{self.name}: {self.status}\n{self.verdict}"

    def _repr_html_(self) -> str:
        heading = f"<b>{html.escape(self.name)}</b>: {self.status}"
        report = html.escape(self.report)
        return f"<p>{heading}</p><pre>{html.escape(self.verdict)}</pre><p>{report}</p>"


def _bounds(name: str, interval: Interval) -> dict[str, float]:
    """The columns of an interval."""
    return {name: interval.value, f"{name}_low": interval.low, f"{name}_high": interval.high}


class Comparison:
    """Several runs side by side."""

    def __init__(self, runs: list[Run]) -> None:
        self.runs = runs

    @property
    def settings(self) -> "pd.DataFrame":
        """The settings in which the experiments differ: a row a dotted key, a column a run."""
        import pandas as pd

        found = side_by_side([run._records.plan for run in self.runs])
        names = [run.name for run in self.runs]
        return pd.DataFrame(list(found.values()), index=list(found), columns=names)

    @property
    def results(self) -> "pd.DataFrame":
        """The results of all runs, a row a trial, by the name of the run and the trial."""
        import pandas as pd

        return pd.concat({run.name: run.results for run in self.runs}, names=["run"])

    @property
    def verdict(self) -> Text:
        """The verdicts of the runs, in sequence."""
        return Text("\n".join(f"{run.name}\n{run.verdict}" for run in self.runs))

    def __repr__(self) -> str:
        return f"{self.settings}\n{self.verdict}"

    def _repr_html_(self) -> str:
        table = self.settings.to_html()
        return f"{table}<pre>{html.escape(self.verdict)}</pre>"


@named_as_arguments()
def open_run(
    source: "Run | str | os.PathLike[str]", *, storage: str | os.PathLike[str] | None = None
) -> Run:
    """A run that was made earlier, or that another process is making: the folder of a sweep, or its
    name or name/id in `storage`, a folder or s3:// address (default: runs). Raises ValueError if there
    is none."""
    if isinstance(source, Run):
        return source
    place = opening.parse_place(os.fspath(storage or opening.STORAGE), "storage")
    return Run(opening.records_of(sweep_folder(str(source), place)))


def compare(
    *runs: "Run | str | os.PathLike[str]", storage: str | os.PathLike[str] | None = None
) -> Comparison:
    """Two or more runs side by side; names and folders are opened as by `open`."""
    if len(runs) < 2:
        raise ValueError(f"compare: got {len(runs)} runs, expected at least two: compare(a, b)")
    return Comparison([open_run(run, storage=storage) for run in runs])
