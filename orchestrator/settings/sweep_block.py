"""The `sweep` block of an experiment file: the settings to vary, how trials are chosen, and the
budget.

`rules.sweeps` checks it against the other blocks, `space` checks its space.
"""

from typing import Annotated, Any, Literal

from annotated_types import Ge, MinLen
from pydantic import AfterValidator, Field

from orchestrator.fields.block import Block
from orchestrator.fields.field_types import (
    SMALL_IS_GOOD,
    Count,
    Objective,
    Objectives,
    Positive,
    Text,
    Texts,
    fits,
)
from orchestrator.fields.messages import Say
from orchestrator.settings.entries import SpaceEntry

Space = Annotated[
    dict[str, SpaceEntry], MinLen(1), Say("a mapping of dotted keys to {grid: [...]}, at least one")
]

METRIC = "one of evaluation.metrics, or a list of several, of nfe and of seconds_per_image"

Baseline = Annotated[
    dict[str, Any], MinLen(1), Say("null or a mapping of dotted keys to values, at least one")
]


class Sweep(Block):
    metric: Annotated[Objective | Objectives, Say(METRIC)] = Field(
        default="fid",
        description="Metric that ranks the trials: one of evaluation.metrics. Or several at once, such as [fid, nfe]: "
        "the first ranks, the verdict is their Pareto front, and optuna searches for it.",
    )
    mode: Literal["min", "max"] = Field(
        default="min",
        description="Whether the lowest or the highest value is best: min or max. Several metrics have each their own.",
    )
    search: Literal["grid", "random", "sobol", "optuna"] = Field(
        default="grid",
        description="How trials are chosen: grid (every combination), random, sobol (points that cover the space "
        "evenly), or optuna (near good trials).",
    )
    sampler: Literal["tpe", "gp"] = Field(
        default="tpe",
        description="How optuna draws: tpe, or gp, a Gaussian process that learns the noise of the metric from the "
        "trials, and does not take noise for an effect.",
    )
    num_trials: Count | None = Field(
        default=None,
        description="Number of points that random, sobol or optuna draws, >= 1; each is combined with the grid of all "
        "grid entries; null for a grid search.",
    )
    learn_from: Texts = Field(
        default=(),
        description="Earlier sweeps under the same storage, as name or name/id; optuna starts from their finished "
        "trials.",
    )
    conditions: Annotated[dict[str, Text], Say("a mapping of swept keys to expressions")] = Field(
        default={},
        description="Expressions by swept key: a key varies only if its expression holds, else it has the value of the "
        'rest of the file. Example: {sampling.guidance: sampling.model == "teacher"}.',
    )
    constraints: Texts = Field(
        default=(),
        description="Expressions that must hold for every trial, such as damping * 1 >= speed; others are left out.",
    )
    baseline: Baseline | None = Field(
        default=None,
        description="Setting with which the verdict compares the others, as dotted keys and values, such as "
        "{sampling.model: teacher, sampling.solver: ab2, sampling.steps: 20}; null: the best teacher.",
    )
    scheduler: Literal["none", "asha"] = Field(
        default="none",
        description="Early stopping of poor trials: none, or asha, which compares the FIDs of teachers after equally "
        "many training steps, as measured by evaluation.every, and those of students with as many sampling steps, by "
        "evaluation.every_student.",
    )
    grace_steps: Count | None = Field(
        default=None,
        description="Training steps of a teacher or of a student before which asha stops no trial, >= 1; null: "
        "evaluation.every, or evaluation.every_student.",
    )
    reduction_factor: Annotated[int, Ge(2), AfterValidator(fits)] = Field(
        default=3,
        description="Reduction factor r of asha, >= 2: at each rung one of r trials continues, and the next rung "
        "has r times as many steps.",
    )
    max_concurrent_trials: Count | None = Field(
        default=None,
        description="Maximum number of concurrent trials, >= 1; null: as many as fit the CPUs and GPUs.",
    )
    max_minutes: Positive | None = Field(
        default=None,
        description="Minutes after which no further trial starts, > 0; null: no limit.",
    )
    max_core_hours: Positive | None = Field(
        default=None,
        description="Compute budget after which no further trial starts, in hours times CPUs (or GPUs, if the cluster "
        "has any), > 0; null: no limit.",
    )
    space: Space = Field(
        description="Dotted keys of this file, each with {grid: [...]}, {choice: [...]}, {uniform: [low, high]}, "
        "{loguniform: [low, high]} or {int: [low, high]}; the last four are for random, sobol and optuna."
    )

    @property
    def objectives(self) -> dict[str, bool]:
        """The metrics, and whether a small value is good; the first ranks the trials."""
        if isinstance(self.metric, str):
            return {self.metric: self.mode == "min"}
        return {name: name in SMALL_IS_GOOD for name in self.metric}

    @property
    def ranked_by(self) -> str:
        """The metric that ranks the trials."""
        return next(iter(self.objectives))
