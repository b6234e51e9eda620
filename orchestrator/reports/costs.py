"""What the best network of each number of steps cost to train, with all that it needs."""

import math
from typing import NamedTuple

from orchestrator.plan import cost
from orchestrator.plan.plan import Trial
from orchestrator.reports.aggregates import Results
from orchestrator.store import layout
from orchestrator.store.stage_result import DamagedError, Result
from orchestrator.sweeps.measured import name_of
from orchestrator.sweeps.verdict import Answer


class Cost(NamedTuple):
    """A number of steps, its best network, and what this took. `parameters`: None where the weights
    are not in the store. `core_hours`: of all its stages, those of several seeds as a mean."""

    question: str
    network: str
    parameters: int | None
    evaluations: float
    core_hours: float
    value: str

    def cells(self) -> tuple[str, ...]:
        """The row of a table."""
        parameters = "" if self.parameters is None else f"{self.parameters:,}"
        hours = f"{self.core_hours:.2g}" if self.core_hours < 10 else f"{self.core_hours:.0f}"
        evaluations = f"{self.evaluations / 1e6:.3g} million"
        return (self.question, self.network, parameters, evaluations, hours, self.value)


def costs(results: Results) -> list[Cost]:
    """A row for each answer of the sweep's verdicts."""
    return [_cost(results, answer) for found in results.verdicts for answer in found.answers]


def _cost(results: Results, answer: Answer) -> Cost:
    trials = [results.records.plan.trials[index] for index in answer.trials]
    seconds = sum(_core_seconds(results, trial) for trial in trials) / len(trials)
    return Cost(
        answer.question,
        name_of(trials[0]),
        _parameters(results, trials[0]),
        cost.with_parents(trials[0].chain[-1]),
        seconds / 3600,
        answer.value.text(),
    )


def _core_seconds(results: Results, trial: Trial) -> float:
    store, cluster = results.records.store, results.records.plan.experiment.cluster
    return cluster.cpus_per_worker * sum(
        store.seconds(stage.key) * store.workers(stage.key, cluster.max_workers)
        for stage in trial.chain[-1].training()
    )


def _parameters(results: Results, trial: Trial) -> int | None:
    store, key = results.records.store, trial.chain[-1].key
    if not store.done(key):
        return None
    try:
        result = store.result(key)
        return _weights(result) if result.has(layout.NETWORK) else None
    except DamagedError as e:
        results.records.damaged |= e.problems
        return None


def _weights(result: Result) -> int:
    """The number of weights in a network's file, by its header alone."""
    from safetensors import safe_open

    with safe_open(result.path(layout.NETWORK), framework="np") as file:
        learned = [name for name in file.keys() if name not in layout.TONE]  # noqa: SIM118
        return sum(math.prod(file.get_slice(name).get_shape()) for name in learned)
