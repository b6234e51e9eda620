"""The blocks of an experiment file, key for key: types, ranges, defaults, and what each setting
means.

Ranges that concern one setting stand here; what settings demand of each other stands in `rules`.
"""

import os
from typing import Annotated, Literal

from annotated_types import Ge
from pydantic import AfterValidator, BeforeValidator, Field, SerializeAsAny

from orchestrator.fields.block import Block
from orchestrator.fields.faults import describe, nearest
from orchestrator.fields.field_types import (
    Count,
    Diagnostics,
    FilePath,
    Fraction,
    Labels,
    Metrics,
    NotNegative,
    Positive,
    Sha256,
    Share,
    Solver,
    Times,
    Uri,
    Whole,
    fits,
    gpus,
)
from orchestrator.fields.kind import Kind
from orchestrator.fields.messages import Say

# imported so that their kinds are there
from orchestrator.methods import datasets, distillers, features, networks, paths  # noqa: F401
from orchestrator.methods.dataset_kind import DatasetKind
from orchestrator.methods.distiller_kind import DistillerKind
from orchestrator.methods.feature_kind import FeatureKind
from orchestrator.methods.network_kind import NetworkKind
from orchestrator.methods.optimised import Optimised
from orchestrator.methods.path_kind import PathKind


def absolute_path(place: str) -> str:
    """`place` for processes that run in other folders, ~ expanded."""
    return os.path.abspath(os.path.expanduser(place))


def of_kind(base: type[Kind]) -> BeforeValidator:
    """What makes a block of the kind that a file names; see `Family.validated`."""
    return BeforeValidator(base.family.validated)


def known_features(name: str) -> str:
    """`name` where it is a feature extractor's, or auto."""
    if name in (AUTO, *FeatureKind.family.names()):
        return name
    close = nearest(name, [AUTO, *FeatureKind.family.names()])
    hint = f"; did you mean {describe(close)}?" if close else ""
    raise ValueError(f"got {describe(name)}, expected {expected_features()}{hint}")


def expected_features() -> str:
    """What `evaluation.features` may be, in words."""
    return f"one of {', '.join(map(describe, [AUTO, *FeatureKind.family.names()]))}"


AUTO = "auto"  # the features that suit the data
Features = Annotated[str, AfterValidator(known_features), Say(expected_features)]
Data = Annotated[SerializeAsAny[DatasetKind], of_kind(DatasetKind)]
Path = Annotated[SerializeAsAny[PathKind], of_kind(PathKind)]
Model = Annotated[SerializeAsAny[NetworkKind], of_kind(NetworkKind)]
Distill = Annotated[SerializeAsAny[DistillerKind], of_kind(DistillerKind)]


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
        description="Steps from noise to data, >= 1; a student: a step count that its distiller trains.",
    )
    times: Times | None = Field(
        default=None,
        description="The teacher's grid, from 1 falling to 0, one more than steps; null: uniform.",
    )
    gamma: Share = Field(
        default=0.0,
        description="Share of each jump that is noised again, 0 to 1; for students that jump.",
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
        "(of fresh points under the network's flow; a student that is no flow has none); at least one.",
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
