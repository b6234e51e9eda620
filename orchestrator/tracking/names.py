"""The names of runs in MLflow, whose columns show about 20 characters: what distinguishes a run of its
sweep comes first."""

import json
from collections import Counter
from collections.abc import Sequence
from typing import Any

from orchestrator.fields.kind import FAMILIES
from orchestrator.plan.plan import Plan, Trial, plain, short_key
from orchestrator.sweeps.measured import MODEL, SOLVER, STEPS
from orchestrator.sweeps.ranking import SEED

# settings whose value alone says what they are
KINDS = frozenset(
    (MODEL, SOLVER, *(f"{family.block}.{family.key}" for family in FAMILIES.values()))
)


class Names:
    """Names of the trials of `plan`, or of its settings if `seeds` are left out."""

    def __init__(self, plan: Plan, seeds: bool = True) -> None:
        keys = differing(plan.trials)
        self.keys = keys if seeds else [key for key in keys if key != SEED]
        short = Counter(short_key(key) for key in self.keys)
        self._display = {
            key: short_key(key) if short[short_key(key)] == 1 else key for key in self.keys
        }
        # the solvers by what is sampled: where there is one alone, it says nothing
        self._solvers: dict[str, set[str]] = {}
        for trial in plan.trials:
            sampling = trial.config.sampling
            self._solvers.setdefault(sampling.model, set()).add(sampling.solver)

    def of(self, trial: Trial) -> str:
        """The values of the settings that differ, those with most values first; if none does, what is
        sampled."""
        own = trial.shown_overrides
        words = {key: _words(self._display[key], key, own[key]) for key in self.keys if key in own}
        if not words and trial.evaluation is not None:
            words = {key: _words(key, key, trial.config.value(key)) for key in (STEPS, MODEL)}
        if SOLVER in words and len(self._solvers[trial.config.sampling.model]) == 1:
            del words[SOLVER]
        if {MODEL, SOLVER} <= words.keys():  # as one, where the first of them is
            first, second = sorted((MODEL, SOLVER), key=list(words).index)
            words[first] = f"{words[MODEL]} {words[SOLVER]}"
            del words[second]
        return ", ".join(words.values()) or trial.title


def trial_names(plan: Plan) -> dict[int, str]:
    """A name for each trial, by index. No two trials have one name."""
    names = Names(plan)
    by_index = {trial.index: names.of(trial) for trial in plan.trials}
    counts = Counter(by_index.values())
    return {
        index: name if counts[name] == 1 else f"{name} (trial {index})"
        for index, name in by_index.items()
    }


def differing(trials: Sequence[Trial]) -> list[str]:
    """The swept keys that have several values in `trials`, those with most values first and the seed
    last."""
    texts: dict[str, set[str]] = {}
    for trial in trials:
        for key, value in trial.shown_overrides.items():
            texts.setdefault(key, set()).add(json.dumps(value))
    several = [key for key, found in texts.items() if len(found) > 1]
    return sorted(several, key=lambda key: (key == SEED, -len(texts[key])))


def _words(name: str, key: str, value: Any) -> str:
    if key == STEPS:
        return f"{value} step{'s' * (value != 1)}"
    if key in KINDS:
        return plain(value)
    if isinstance(value, list) and value and all(isinstance(v, int | float) for v in value):
        return f"{name} {'-'.join(plain(v) for v in value)}"
    return f"{name} {plain(value)}"
