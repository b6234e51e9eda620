"""The pages of MLflow's UI that show a sweep: its table of runs, filtered and ordered, with the columns
that matter.

MLflow's addresses have a filter and an order, but no columns. A view that is saved as a tag of the
experiment has all of them, and the address names it."""

import json
from dataclasses import dataclass
from urllib.parse import quote, urlencode

from orchestrator.sweeps.ranking import SEED, metric_of
from orchestrator.sweeps.records import Records
from orchestrator.tracking.hints import best_filters, mean_filter
from orchestrator.tracking.means import SEEDS
from orchestrator.tracking.names import differing
from orchestrator.tracking.parameters import name_of

SAVED = "mlflow.sharedViewState."  # MLflow's tags of an experiment that have its saved views
METRICS = ("fid", "fid_second", "kid", "w2", "log_likelihood", "precision", "recall", "nfe")
COLUMNS = 30  # at most: a tag of an experiment has at most 5,000 characters


@dataclass(frozen=True)
class View:
    """A table of runs: those that the filter `query` lists, in the order of `metric`; `key` names it
    in the experiment."""

    key: str
    query: str
    metric: str
    ascending: bool
    columns: tuple[str, ...]

    @property
    def tag(self) -> str:
        """The tag of the experiment that has this view."""
        return SAVED + self.key

    def state(self) -> str:
        """The value of that tag."""
        return json.dumps(
            {
                "searchFilter": self.query,
                "orderByKey": f"metrics.`{self.metric}`",
                "orderByAsc": self.ascending,
                "selectedColumns": list(self.columns[:COLUMNS]),
            }
        )

    def link(self, experiment: str, saved: bool) -> str:
        """The address of the view; `experiment`: of MLflow's page of the experiment; `saved`: whether
        the experiment has the view's tag. Otherwise the columns are MLflow's."""
        # without the first, MLflow opens the page for traces
        query = {"workflowType": "machine_learning"}
        if saved:
            query["viewStateShareKey"] = self.key
        else:
            query["searchFilter"] = self.query
            query["orderByKey"] = f"metrics.`{self.metric}`"
            query["orderByAsc"] = "true" if self.ascending else "false"
        # a terminal ends a link at a quote or a bracket: all of them are percent-encoded
        return f"{experiment}/runs?{urlencode(query, quote_via=quote, safe='')}"


def views(records: Records) -> list[View]:
    """The trials of a sweep, best first: a view for each of `best_filters`; and the means over its
    training seeds, if it has several."""
    found = [
        _view(records, f"{records.plan.id}-{number}" if number else records.plan.id, query)
        for number, query in enumerate(best_filters(records))
    ]
    if query := mean_filter(records):
        found.append(_view(records, f"{records.plan.id}-means", query))
    return found


def _view(records: Records, key: str, query: str) -> View:
    metric, small_is_good = metric_of(records)
    trials, of_means = records.plan.trials, query == mean_filter(records)
    measured = {name for trial in trials for name in records.measured(trial)}
    metrics = [name for name in dict.fromkeys((metric, *METRICS)) if name in measured]
    keys = differing(trials)
    if of_means:
        metrics[1:1] = [f"{metric}_std", SEEDS]
        keys = [key for key in keys if key != SEED]
    settings = dict.fromkeys(map(name_of, keys))
    columns = [f"metrics.`{name}`" for name in metrics] + [f"params.`{name}`" for name in settings]
    return View(key, query, metric, small_is_good, tuple(columns))
