"""The `sweep` block of an experiment file: what to vary, how trials are chosen, and how much of it
is run.

What it demands of the other blocks stands in `rules.of_sweeps`, its space in `space`.
"""

from typing import Annotated, Literal

from annotated_types import Ge, MinLen
from pydantic import AfterValidator, Field

from orchestrator.fields.block import Block
from orchestrator.fields.field_types import Count, Metric, Positive, Text, Texts, fits
from orchestrator.fields.messages import Say
from orchestrator.settings.entries import SpaceEntry

Space = Annotated[
    dict[str, SpaceEntry], MinLen(1), Say("a mapping of dotted keys to {grid: [...]}, at least one")
]


class Sweep(Block):
    metric: Metric = Field(
        default="fid", description="What ranks the trials: one of evaluation.metrics."
    )
    mode: Literal["min", "max"] = Field(
        default="min", description="Which end of the metric is best: min or max."
    )
    search: Literal["grid", "random", "optuna"] = Field(
        default="grid",
        description="How trials are chosen: grid, every combination; random; optuna, where earlier were good (TPE).",
    )
    num_trials: Count | None = Field(
        default=None,
        description="Points that random and optuna draw, >= 1, each combined with the grid of all grid entries; null "
        "for a grid search.",
    )
    learn_from: Texts = Field(
        default=(),
        description="Earlier sweeps under the same storage, each as name or name/id, whose finished trials optuna "
        "starts from.",
    )
    conditions: Annotated[dict[str, Text], Say("a mapping of swept keys to expressions")] = Field(
        default={},
        description="For a swept key the expression under which it is varied; where it does not hold the key is as in "
        'the rest of the file. Example: {sampling.guidance: sampling.model == "teacher"}.',
    )
    constraints: Texts = Field(
        default=(),
        description="Expressions that every trial has to fulfil, such as damping * 1 >= speed; others are left out.",
    )
    scheduler: Literal["none", "asha"] = Field(
        default="none",
        description="What stops poor trials early: none; asha, by the FID of their teachers after as many steps, which "
        "evaluation.every has measured.",
    )
    grace_steps: Count | None = Field(
        default=None,
        description="Teacher steps before which asha stops nobody, >= 1; null: evaluation.every.",
    )
    reduction_factor: Annotated[int, Ge(2), AfterValidator(fits)] = Field(
        default=3,
        description="Of how many trials asha lets one go on at each look, >= 2; looks are so many times "
        "further apart each time.",
    )
    max_concurrent_trials: Count | None = Field(
        default=None,
        description="Trials at once, >= 1; null: as many as there are CPUs and GPUs for.",
    )
    max_minutes: Positive | None = Field(
        default=None,
        description="Minutes after which no further trial is begun, > 0; null: no such budget.",
    )
    max_core_hours: Positive | None = Field(
        default=None,
        description="Computing after which no further trial is begun, in hours times CPUs (GPUs where there are), > 0; "
        "null: no such budget.",
    )
    space: Space = Field(
        description="Dotted keys of this file, each with {grid: [...]}, {choice: [...]}, {uniform: [low, high]}, "
        "{loguniform: [low, high]} or {int: [low, high]}; the last four are for random and optuna."
    )
