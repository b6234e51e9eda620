"""The blocks of an experiment file, key for key: types, ranges, defaults, and what each setting
means.

Ranges that concern one setting stand here; what settings demand of each other stands in `rules`.
"""

import os
from dataclasses import replace
from typing import Annotated, Literal

from annotated_types import Ge
from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from orchestrator.settings.dataset_facts import DATA_FACTS, DataFacts
from orchestrator.settings.field_types import (
    Colour,
    Count,
    Counts,
    Diagnostics,
    Features,
    FilePath,
    Fraction,
    Huber,
    Intervals,
    Labels,
    Metrics,
    NotNegative,
    Positive,
    Precision,
    Rates,
    Schedule,
    Sha256,
    Share,
    Sizes,
    Solver,
    Text,
    Times,
    Uri,
    Whole,
    fits,
    gpus,
)


def absolute_path(place: str) -> str:
    """`place` for processes that run in other folders, ~ expanded."""
    return os.path.abspath(os.path.expanduser(place))


class Block(BaseModel):
    model_config = ConfigDict(frozen=True, strict=True, extra="forbid", allow_inf_nan=False)


class Data(Block):
    name: Literal[
        "digits", "mnist", "cifar10", "celeba64", "lsun_bedroom256", "folder", "grid9"
    ] = Field(
        description="Data set: digits (1797 of 8x8), mnist (5000 of 28x28), cifar10, celeba64, lsun_bedroom256, "
        "folder: your own images, or grid9: points in the plane, of nine narrow Gaussians."
    )
    root: FilePath | None = Field(
        default=None,
        description="Folder with the data, of folder also an archive, an array file or a table (docs/data.md); null: "
        "the copy that comes with a package, of digits, mnist and grid9.",
    )
    size: Count | None = Field(
        default=None,
        description="Pixels a side that images are cropped and resized to, >= 1; folder only.",
    )
    limit: Count | None = Field(
        default=None,
        description="Only the first so many images, >= 1; lsun_bedroom256 only, all of which take 596 GB; null: all.",
    )
    download: bool = Field(
        default=False,
        description="Whether to fetch what is missing in root: true or false; cifar10 and celeba64 only.",
    )
    flip: bool = Field(
        default=False,
        description="Whether images are mirrored left to right at random in training: true or false.",
    )
    cache: FilePath | None = Field(
        default=None,
        description="Folder of the images decoded once, 0.2 to 600 GB; null: .kaccore in root.",
    )
    background: Colour = Field(
        default="white",
        description="Colour on which transparent images are composed: a name or hex; folder only.",
    )
    split: Text | None = Field(
        default=None,
        description="Folder in root, or part of an array file or table, that alone is read, such as train; null: all "
        "of root; folder only.",
    )
    skip_damaged: bool = Field(
        default=False,
        description="Whether images that cannot be decoded are left out and counted: true or false, which refuses "
        "them; folder only.",
    )

    @property
    def facts(self) -> DataFacts:
        """What is known before anything is read; of a folder without a size not even that."""
        facts = DATA_FACTS[self.name]
        return facts if self.name != "folder" else replace(facts, size=self.size)

    def absolute(self) -> "Data":
        """The same for processes that run in other folders."""
        places = {"root": self.root, "cache": self.cache}
        return self.model_copy(
            update={key: absolute_path(place) for key, place in places.items() if place}
        )


class Path(Block):
    kind: Literal["kac", "diffusion", "flow_matching"] = Field(
        description="Path from data to noise: kac, diffusion or flow_matching."
    )
    damping: Positive = Field(
        default=25.0, description="Reversal rate a of the Kac process, per unit of time, > 0."
    )
    speed: Positive = Field(
        default=2.0, description="Speed c of the Kac process, image units per unit of time, > 0."
    )
    signal: Literal["linear", "exponential"] = Field(
        default="linear",
        description="Share f(t) of the data in x_t: linear or exponential; kac only.",
    )
    clock: Literal["linear", "quadratic"] = Field(
        default="linear", description="Noise time g(t): linear or quadratic; kac only."
    )
    schedule: Literal["sqrt", "vp"] = Field(
        default="sqrt", description="Noise schedule: sqrt or vp; diffusion only."
    )
    width: Positive | None = Field(
        default=None,
        description="Standard deviation of the prior, image units, > 0; null: that of the Kac prior with this damping "
        "and speed, so that kinds compare at equal width; diffusion and flow_matching only.",
    )


class Model(Block):
    kind: Literal["unet", "dit", "mlp"] = Field(
        default="unet", description="Network: unet, dit or mlp."
    )
    channels: Count = Field(
        default=32, description="Channels of the first level, or of every layer, >= 1."
    )
    multipliers: Counts = Field(
        default=(1, 2),
        description="Channels of each level as a multiple of the first, each >= 1; a level halves the size; unet only.",
    )
    blocks: Count = Field(default=1, description="Residual blocks a level, >= 1; unet only.")
    attention: Sizes = Field(
        default=(),
        description="Image sizes in pixels with self-attention, of those the levels have; unet only.",
    )
    attention_in: Literal["all", "adm"] = Field(
        default="all",
        description="Blocks with attention at those sizes: all, or adm (the ordinary ones, and always the middle); "
        "unet only.",
    )
    scale_shift: bool = Field(
        default=True,
        description="Whether the time scales and shifts the norms, or is added; unet only.",
    )
    resample: Literal["residual", "conv"] = Field(
        default="residual",
        description="Where sizes change: residual (inside blocks) or conv (between); unet only.",
    )
    depth: Count = Field(
        default=4, description="Transformer blocks or hidden layers, >= 1; dit and mlp only."
    )
    dropout: Fraction = Field(
        default=0.0,
        description="Share of activations dropped in training, >= 0 and < 1; unet and dit only.",
    )
    head_channels: Count = Field(
        default=32, description="Channels of one attention head, >= 1; unet and dit only."
    )
    patch: Count = Field(
        default=1,
        description="Pixels a side folded into channels first, >= 1, a divisor of the image size; unet and dit only.",
    )


class Optimised(Block):
    """How any network is trained, teacher or student."""

    batch_size: Count = Field(default=128, description="Images a step, over all workers, >= 1.")
    schedule: Schedule = Field(
        default="cosine", description="Learning rate after the warm-up: cosine (to 0) or constant."
    )
    restarts: Whole = Field(
        default=0, description="How often the cosine begins again from the peak, >= 0."
    )
    warmup: Whole = Field(
        default=0, description="Steps in which the learning rate rises from 0, >= 0."
    )
    clip: Positive | None = Field(
        default=None, description="Largest norm of the gradient, > 0; null: not clipped."
    )
    accumulate: Count = Field(
        default=1, description="Parts in which a step's images are taken, to save memory, >= 1."
    )
    precision: Precision = Field(
        default="float32",
        description="Of the network's products: float32, or bfloat16 by autocast.",
    )


class Teacher(Optimised):
    steps: Count = Field(default=1500, description="Training steps, >= 1.")
    lr: Positive = Field(default=2.0e-3, description="Peak learning rate, > 0.")
    ema: Fraction = Field(
        default=0.999, description="Decay of the weights' moving average a step, >= 0 and < 1."
    )
    augment: Fraction = Field(
        default=0.0,
        description="Chance of each of EDM's augmentations, which the network is told of, >= 0 and < 1.",
    )
    label_dropout: Fraction | None = Field(
        default=0.1,
        description="Share of images trained without their label, >= 0 and < 1; null: no labels at all.",
    )


class Distill(Optimised):
    kind: Literal["endpoint", "progressive", "consistency", "inverse"] = Field(
        default="endpoint", description="Distiller: endpoint, progressive, consistency or inverse."
    )
    intervals: Intervals = Field(
        default=(20, 4, 2, 1),
        description="Step counts of the students in turn, each >= 1 and a divisor of the one before, for progressive "
        "half of it. consistency and inverse train one student with the training steps of all these.",
    )
    times: Times | None = Field(
        default=None,
        description="The first student's grid, from 1 falling to 0, one more than its intervals; later students take "
        "every so-manieth; null: uniform; endpoint only.",
    )
    chained: bool = Field(
        default=True,
        description="Whether each student's teacher is the student before, or always the teacher; endpoint only.",
    )
    start: Literal["previous", "teacher"] = Field(
        default="previous",
        description="Whose weights a student starts from: previous (the one before) or teacher.",
    )
    teacher_steps: Count = Field(
        default=100,
        description="Steps of the first student's teacher, a multiple of the first of the intervals; for consistency "
        "those between which it learns to jump; endpoint and consistency only.",
    )
    teacher_solver: Solver = Field(
        default="ab2",
        description="Solver of the first student's teacher: euler, midpoint, heun, ab2 or rk4.",
    )
    guidance: NotNegative = Field(
        default=1.0, description="Guidance that is distilled into the students, >= 0; 1: none."
    )
    steps: Count | Counts = Field(
        default=400, description="Training steps of a student, >= 1; one, or one per interval."
    )
    lr: Positive | Rates = Field(
        default=5.0e-4, description="Peak learning rate, > 0; one, or one per interval."
    )
    ema: Fraction = Field(
        default=0.99, description="Decay of the weights' moving average a step, >= 0 and < 1."
    )
    target: Literal["velocity", "endpoint"] = Field(
        default="velocity", description="What is matched: velocity or endpoint."
    )
    huber: Huber | None = Field(
        default=None,
        description="Where the loss turns from the square to the absolute value (pseudo-Huber), coordinate by "
        "coordinate, in units of what is matched, 1e-6 to 1e6; null: the square; endpoint, progressive and "
        "consistency only.",
    )


class Sampling(Block):
    model: Literal["teacher", "student"] = Field(
        default="student", description="Which network is sampled: teacher or student."
    )
    solver: Solver = Field(
        default="euler",
        description="euler, midpoint, heun, ab2 or rk4; a student takes euler only.",
    )
    steps: Count = Field(
        default=4,
        description="Steps from noise to data, >= 1; a student: one of distill.intervals; of consistency: up to "
        "distill.teacher_steps; of inverse: 1.",
    )
    times: Times | None = Field(
        default=None,
        description="The teacher's grid, from 1 falling to 0, one more than steps; null: uniform.",
    )
    gamma: Share = Field(
        default=0.0,
        description="Share of each jump that is noised again, 0 to 1; students of consistency only.",
    )
    shaping: Fraction = Field(
        default=0.0,
        description="Kinetic trajectory shaping: faster early, slower late, by this share, >= 0 and < 1.",
    )
    guidance: NotNegative = Field(
        default=1.0, description="Guidance, >= 0; 1: none, and the only one a student takes."
    )
    labels: Whole | Labels | None = Field(
        default=None,
        description="Class or list of classes, from 0; null: drawn as the data has them.",
    )


class Evaluation(Block):
    samples: Annotated[int, Ge(2), AfterValidator(fits)] = Field(
        default=1797, description="Images drawn for each number, >= 2."
    )
    metrics: Metrics = Field(
        default=("fid", "kid"),
        description="Any of fid, kid, precision, recall, inception_score, "
        "fid_per_class, and for points w2 (of 1,000 samples to as many fresh points of the data) and log_likelihood "
        "(of fresh points under the network's flow; students of consistency and inverse have none); at least one.",
    )
    features: Features = Field(
        default="auto",
        description="Feature extractor: digits-cnn-v1, mnist-cnn-v1, inception-v3-compat (FID), dinov2-vit-l-14 "
        "(FD-DINOv2) or its smaller -b- and -s-, own (a small network trained on the data set itself, whose numbers "
        "compare within it alone), points (the coordinates themselves); auto: the shipped one of the data, points, or "
        "inception-v3-compat where its weights are given or on this machine, else own.",
    )
    weights: FilePath | None = Field(
        default=None,
        description="File with the weights of inception-v3-compat or of a dinov2; null: none given, the official ones "
        "are fetched where features asks for them by name.",
    )
    weights_sha256: Sha256 | None = Field(
        default=None,
        description="SHA-256 that the file in weights must have, 64 hexadecimal digits; null: that of the official "
        "weights.",
    )
    every: Count | None = Field(
        default=None,
        description="Training steps of a teacher after which, again and again, its FID is measured while it trains, of "
        "its averaged weights at 20 ab2 steps, >= 1; null: never.",
    )
    every_samples: Annotated[int, Ge(2), AfterValidator(fits)] = Field(
        default=256,
        description="Images drawn for each of these, >= 2: few, so they score higher than samples would.",
    )
    seeds: Count = Field(
        default=1,
        description="How many times a trial is sampled and measured, each from its own seed, >= 1.",
    )
    diagnostics: Diagnostics = Field(
        default=("memorisation", "gap"),
        description="What is looked at beside the metrics: any of memorisation (nearest training images) and gap (a "
        "student's way against its teacher's).",
    )

    def absolute(self) -> "Evaluation":
        """The same for processes that run in other folders."""
        return self.model_copy(
            update={"weights": absolute_path(self.weights)} if self.weights else {}
        )


class Checkpoint(Block):
    steps: Count = Field(
        default=500, description="Training steps between checkpoints at most, >= 1."
    )
    minutes: Positive = Field(default=2.0, description="Minutes between checkpoints at most, > 0.")
    keep: Count = Field(
        default=2, description="How many checkpoints of an unfinished stage are kept, >= 1."
    )


class Cluster(Block):
    workers: Count = Field(
        default=1, description="Processes that train one network together, >= 1."
    )
    cpus_per_worker: Positive = Field(default=1.0, description="CPUs of each worker, > 0.")
    gpus_per_worker: Annotated[NotNegative, AfterValidator(gpus)] = Field(
        default=0.0, description="GPUs of each worker, a share from 0 to 1 or a whole number."
    )
    compile: bool = Field(
        default=False, description="Whether torch.compile is used: slower to begin, faster after."
    )


class Tracking(Block):
    uri: Uri | None = Field(
        default=None,
        description="MLflow tracking server; null: the embedded store under storage, if that is a folder.",
    )
