"""The blocks of an experiment file, key for key: types, ranges, defaults, and what each setting means.

Ranges that concern one setting stand here; what settings demand of each other stands in `rules.py`.
"""

from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated, Any, Literal, TypeVar

from annotated_types import Ge, Gt, Le, Lt, MinLen
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints, model_validator

from orchestrator.faults import describe
from orchestrator.translate import Say

T = TypeVar("T")


@dataclass(frozen=True)
class DataFacts:
    channels: int
    size: int  # pixels a side
    classes: int
    count: int  # images


DATA_FACTS = {"digits": DataFacts(1, 8, 10, 1797), "mnist": DataFacts(1, 28, 10, 5000)}


def _tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value  # YAML has lists, frozen models hold tuples


def _unique(values: tuple[T, ...]) -> tuple[T, ...]:
    twice = next((value for value in values if values.count(value) > 1), None)
    if twice is not None:
        raise ValueError(f"got {describe(values)}, {describe(twice)} stands twice")
    return values


def _chain(counts: tuple[int, ...]) -> tuple[int, ...]:
    for before, after in pairwise(counts):
        if after >= before:
            raise ValueError(f"got {describe(counts)}, expected falling counts: {after} after {before}")
        if before % after:
            raise ValueError(f"got {describe(counts)}, each count has to divide the one before: {after} after {before}")
    return counts


def _gpus(count: float) -> float:
    if count > 1 and count != int(count):
        raise ValueError(f"got {describe(count)}, expected a share from 0 to 1 or a whole number of GPUs")
    return count


def _fits(count: int) -> int:
    if count >= 2**63:  # beyond, a tensor's size and a file's integers overflow
        raise ValueError(f"got {describe(count)}, expected less than 2^63")
    return count


Seed = Annotated[int, Ge(0), Le(2**32 - 1)]
Count = Annotated[int, Ge(1), AfterValidator(_fits)]
Whole = Annotated[int, Ge(0), AfterValidator(_fits)]
NotNegative = Annotated[float, Ge(0)]
Positive = Annotated[float, Gt(0)]
Fraction = Annotated[float, Ge(0), Lt(1)]
Text = Annotated[str, StringConstraints(pattern=r"^[^\x00-\x1f\x7f]+$"), Say("non-empty text on one line")]
Name = Annotated[
    str,
    StringConstraints(pattern=r"^[A-Za-z0-9_-][A-Za-z0-9._-]*$", max_length=100),
    Say("1 to 100 letters, digits, hyphens, underscores or dots, not starting with a dot"),
]
Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-fA-F]{64}$"), Say("64 hexadecimal digits")]
Counts = Annotated[tuple[Count, ...], BeforeValidator(_tuple), MinLen(1)]
Rates = Annotated[tuple[Positive, ...], BeforeValidator(_tuple), MinLen(1)]
Labels = Annotated[tuple[Whole, ...], BeforeValidator(_tuple), MinLen(1)]
Sizes = Annotated[tuple[Count, ...], BeforeValidator(_tuple), AfterValidator(_unique)]
Intervals = Annotated[tuple[Count, ...], BeforeValidator(_tuple), MinLen(1), AfterValidator(_chain)]
Metric = Literal["fid", "kid", "precision", "recall"]
Metrics = Annotated[tuple[Metric, ...], BeforeValidator(_tuple), MinLen(1), AfterValidator(_unique)]
Solver = Literal["euler", "midpoint", "heun", "ab2", "rk4"]
Schedule = Literal["cosine", "constant"]


class Block(BaseModel):
    model_config = ConfigDict(frozen=True, strict=True, extra="forbid", allow_inf_nan=False)


class Data(Block):
    name: Literal["digits", "mnist"] = Field(description="Data set: digits (1797 of 8x8) or mnist (5000 of 28x28).")
    root: Text | None = Field(
        default=None, description="Folder with the data; null: the copy that comes with a package."
    )


class Path(Block):
    kind: Literal["kac", "diffusion", "flow_matching"] = Field(
        description="Path from data to noise: kac, diffusion or flow_matching."
    )
    damping: Positive = Field(default=25.0, description="Reversal rate a of the Kac process, per unit of time, > 0.")
    speed: Positive = Field(default=2.0, description="Speed c of the Kac process, image units per unit of time, > 0.")
    signal: Literal["linear", "exponential"] = Field(
        default="linear", description="Share f(t) of the data in x_t: linear or exponential; kac only."
    )
    clock: Literal["linear", "quadratic"] = Field(
        default="linear", description="Noise time g(t): linear or quadratic; kac only."
    )
    schedule: Literal["sqrt", "vp"] = Field(default="sqrt", description="Noise schedule: sqrt or vp; diffusion only.")
    width: Positive | None = Field(
        default=None,
        description="Standard deviation of the prior, image units, > 0; null: that of the Kac prior with this damping "
        "and speed, so that kinds compare at equal width; diffusion and flow_matching only.",
    )


class Model(Block):
    kind: Literal["unet"] = Field(default="unet", description="Network: unet.")
    channels: Count = Field(default=32, description="Channels of the first level, >= 1.")
    multipliers: Counts = Field(
        default=(1, 2),
        description="Channels of each level as a multiple of the first, each >= 1; a level halves the size.",
    )
    blocks: Count = Field(default=1, description="Residual blocks a level, >= 1.")
    attention: Sizes = Field(
        default=(), description="Image sizes in pixels with self-attention, of those the levels have."
    )
    dropout: Fraction = Field(default=0.0, description="Share of activations dropped in training, >= 0 and < 1.")
    head_channels: Count = Field(default=32, description="Channels of one attention head, >= 1.")
    patch: Count = Field(
        default=1, description="Pixels a side folded into channels first, >= 1, a divisor of the image size."
    )


class Teacher(Block):
    steps: Count = Field(default=1500, description="Training steps, >= 1.")
    batch_size: Count = Field(default=128, description="Images a step, over all workers, >= 1.")
    lr: Positive = Field(default=2.0e-3, description="Peak learning rate, > 0.")
    ema: Fraction = Field(default=0.999, description="Decay of the weights' moving average a step, >= 0 and < 1.")
    label_dropout: Fraction | None = Field(
        default=0.1, description="Share of images trained without their label, >= 0 and < 1; null: no labels at all."
    )
    schedule: Schedule = Field(
        default="cosine", description="Learning rate after the warm-up: cosine (to 0) or constant."
    )
    warmup: Whole = Field(default=0, description="Steps in which the learning rate rises from 0, >= 0.")
    clip: Positive | None = Field(default=None, description="Largest norm of the gradient, > 0; null: not clipped.")


class Distill(Block):
    kind: Literal["endpoint"] = Field(default="endpoint", description="Distiller: endpoint.")
    intervals: Intervals = Field(
        default=(20, 4, 2, 1),
        description="Step counts of the students in turn, each >= 1 and a divisor of the one before.",
    )
    teacher_steps: Count = Field(
        default=100, description="Steps of the first student's teacher, a multiple of the first of the intervals."
    )
    teacher_solver: Solver = Field(
        default="ab2", description="Solver of the first student's teacher: euler, midpoint, heun, ab2 or rk4."
    )
    guidance: NotNegative = Field(
        default=1.0, description="Guidance that is distilled into the students, >= 0; 1: none."
    )
    steps: Count | Counts = Field(
        default=400, description="Training steps of a student, >= 1; one, or one per interval."
    )
    batch_size: Count = Field(default=128, description="Images a step, over all workers, >= 1.")
    lr: Positive | Rates = Field(default=5.0e-4, description="Peak learning rate, > 0; one, or one per interval.")
    ema: Fraction = Field(default=0.99, description="Decay of the weights' moving average a step, >= 0 and < 1.")
    target: Literal["velocity", "endpoint"] = Field(
        default="velocity", description="What is matched: velocity or endpoint."
    )
    schedule: Schedule = Field(
        default="cosine", description="Learning rate after the warm-up: cosine (to 0) or constant."
    )
    warmup: Whole = Field(default=0, description="Steps in which the learning rate rises from 0, >= 0.")
    clip: Positive | None = Field(default=None, description="Largest norm of the gradient, > 0; null: not clipped.")


class Sampling(Block):
    model: Literal["teacher", "student"] = Field(
        default="student", description="Which network is sampled: teacher or student."
    )
    solver: Solver = Field(
        default="euler", description="euler, midpoint, heun, ab2 or rk4; a student takes euler only."
    )
    steps: Count = Field(default=4, description="Steps from noise to data, >= 1; a student: one of distill.intervals.")
    guidance: NotNegative = Field(default=1.0, description="Guidance, >= 0; 1: none, and the only one a student takes.")
    labels: Whole | Labels | None = Field(
        default=None, description="Class or list of classes, from 0; null: drawn as the data has them."
    )


class Evaluation(Block):
    samples: Annotated[int, Ge(2), AfterValidator(_fits)] = Field(
        default=1797, description="Images drawn for each number, >= 2."
    )
    metrics: Metrics = Field(default=("fid", "kid"), description="Any of fid, kid, precision, recall; at least one.")
    features: Literal["auto", "digits-cnn-v1", "mnist-cnn-v1", "inception-v3-compat"] = Field(
        default="auto",
        description="Feature extractor: digits-cnn-v1, mnist-cnn-v1, inception-v3-compat; auto: the one of the data.",
    )
    weights: Text | None = Field(
        default=None, description="File with the weights of inception-v3-compat; null: none given."
    )
    weights_sha256: Sha256 | None = Field(
        default=None,
        description="SHA-256 that the file in weights must have, 64 hexadecimal digits; null: not checked.",
    )
    seeds: Count = Field(
        default=1, description="How many times a trial is sampled and measured, each from its own seed, >= 1."
    )


class Checkpoint(Block):
    steps: Count = Field(default=500, description="Training steps between checkpoints at most, >= 1.")
    minutes: Positive = Field(default=2.0, description="Minutes between checkpoints at most, > 0.")
    keep: Count = Field(default=2, description="How many checkpoints of an unfinished stage are kept, >= 1.")


class Cluster(Block):
    workers: Count = Field(default=1, description="Processes that train one network together, >= 1.")
    cpus_per_worker: Positive = Field(default=1.0, description="CPUs of each worker, > 0.")
    gpus_per_worker: Annotated[NotNegative, AfterValidator(_gpus)] = Field(
        default=0.0, description="GPUs of each worker, a share from 0 to 1 or a whole number."
    )


class Tracking(Block):
    uri: Text | None = Field(
        default=None, description="MLflow tracking server; null: the embedded store under storage."
    )


class Grid(Block):
    grid: tuple[Any, ...] = Field(description="The values to try, at least one.")

    @model_validator(mode="before")
    @classmethod
    def _only_grid(cls, entry: Any) -> Any:
        if isinstance(entry, cls):
            return entry
        if isinstance(entry, dict) and set(entry) == {"grid"}:
            if not isinstance(entry["grid"], (list, tuple)) or not entry["grid"]:
                raise ValueError(f"got {describe(entry)}, expected a list of at least one value in grid")
            return {"grid": tuple(entry["grid"])}
        later = isinstance(entry, dict) and [key for key in ("choice", "uniform", "loguniform", "int") if key in entry]
        why = f": {', '.join(later)} is for random search, which is not available yet" if later else ""
        raise ValueError(f"got {describe(entry)}, expected {{grid: [...]}}{why}")


Space = Annotated[dict[str, Grid], MinLen(1), Say("a mapping of dotted keys to {grid: [...]}, at least one")]


class Sweep(Block):
    metric: Metric = Field(default="fid", description="What ranks the trials: one of evaluation.metrics.")
    mode: Literal["min", "max"] = Field(default="min", description="Which end of the metric is best: min or max.")
    search: Literal["grid"] = Field(default="grid", description="How trials are chosen: grid, every combination.")
    num_trials: Annotated[None, Say("null: a grid runs every combination")] = Field(
        default=None, description="How many trials; null for a grid, which runs every combination."
    )
    scheduler: Literal["none"] = Field(default="none", description="What stops poor trials early: none.")
    max_concurrent_trials: Count = Field(default=2, description="Trials at once, >= 1.")
    space: Space = Field(description="Dotted keys of this file, each with {grid: [values]}.")
