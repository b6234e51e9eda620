"""The blocks of an experiment file, key for key: types, ranges, defaults, and what each setting
means.

This module checks the range of each setting alone; `rules` checks settings against each other.
"""

import os
from collections.abc import Iterable
from typing import Annotated, Literal, Protocol

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
    LogitNormal,
    Metrics,
    NotNegative,
    Positive,
    Sha256,
    Share,
    ShellCommand,
    Solver,
    Times,
    Uri,
    Whole,
    Workers,
    fits,
    gpus,
)
from orchestrator.fields.kind import Kind
from orchestrator.fields.messages import Say

# imported because each module registers its kinds
from orchestrator.methods import datasets, distillers, features, networks, paths  # noqa: F401
from orchestrator.methods.dataset_kind import DatasetKind
from orchestrator.methods.distiller_kind import DistillerKind
from orchestrator.methods.feature_kind import FeatureKind
from orchestrator.methods.network_kind import NetworkKind
from orchestrator.methods.optimised import Optimised
from orchestrator.methods.path_kind import PathKind


def absolute_path(place: str) -> str:
    """`place` as an absolute path with ~ expanded, valid for processes in other working folders."""
    return os.path.abspath(os.path.expanduser(place))


def of_kind(base: type[Kind]) -> BeforeValidator:
    """A validator that builds a block of the kind that the file names; see `Family.validated`."""
    return BeforeValidator(base.family.validated)


def known_features(name: str) -> str:
    """`name` if it is auto or a feature extractor; raises ValueError otherwise."""
    if name in (AUTO, *FeatureKind.family.names()):
        return name
    close = nearest(name, [AUTO, *FeatureKind.family.names()])
    hint = f"; did you mean {describe(close)}?" if close else ""
    raise ValueError(f"got {describe(name)}, expected {expected_features()}{hint}")


def expected_features() -> str:
    """The admitted values of `evaluation.features`, for a message."""
    return f"one of {', '.join(map(describe, [AUTO, *FeatureKind.family.names()]))}"


def known_second(name: str | None) -> str | None:
    """`name` if it is auto, null or a feature extractor; raises ValueError otherwise."""
    return name if name is None else known_features(name)


AUTO = "auto"  # selects the features that suit the data set
Features = Annotated[str, AfterValidator(known_features), Say(expected_features)]
Second = Annotated[
    str | None, AfterValidator(known_second), Say(lambda: f"null or {expected_features()}")
]
Data = Annotated[SerializeAsAny[DatasetKind], of_kind(DatasetKind)]
Path = Annotated[SerializeAsAny[PathKind], of_kind(PathKind)]
Model = Annotated[SerializeAsAny[NetworkKind], of_kind(NetworkKind)]
Distill = Annotated[SerializeAsAny[DistillerKind], of_kind(DistillerKind)]


class Teacher(Optimised):
    steps: Count = Field(default=1500, description="Training steps, >= 1.")
    lr: Positive = Field(default=2.0e-3, description="Peak learning rate, > 0.")
    ema: Fraction = Field(
        default=0.999,
        description="Decay per step of the exponential moving average of the weights, >= 0 and < 1.",
    )
    augment: Fraction = Field(
        default=0.0,
        description="Probability of each of EDM's augmentations, >= 0 and < 1; the network takes them as an input.",
    )
    logit_normal: LogitNormal | None = Field(
        default=None,
        description="Times in training: [mean, std] of the normal log(t / (1 - t)) (arXiv 2403.03206), which puts more "
        "of the training where the field is hard to learn; null: uniform.",
    )
    label_dropout: Fraction | None = Field(
        default=0.1,
        description="Fraction of images trained without their label, >= 0 and < 1; null: trains without labels.",
    )
    weights: FilePath | None = Field(
        default=None,
        description="File with the weights of a network that was trained elsewhere (.safetensors, .pt, .pth or .ckpt): "
        "it is the teacher, and nothing is trained for it; null: the teacher is trained.",
    )
    weights_sha256: Sha256 | None = Field(
        default=None,
        description="SHA-256 of the file in weights, 64 hexadecimal digits; null: it is computed from the file.",
    )
    weights_names: Annotated[
        dict[str, str], Say("a mapping of beginnings of names to their replacements")
    ] = Field(
        default={},
        description="Replacements for the beginnings of the names of its tensors, such as {ema_model.: net.}; the "
        "longest that fits applies, and tensors whose names none fits are left out. Empty: all names as they are.",
    )


class Sampling(Block):
    model: Literal["teacher", "student"] = Field(
        default="student", description="Network that is sampled: teacher or student."
    )
    solver: Solver = Field(
        default="euler",
        description="ODE solver: euler, midpoint, heun, ab2 or rk4; a student takes euler only.",
    )
    steps: Count = Field(
        default=4,
        description="Steps from noise to data, >= 1; for a student a step count that its distiller trains.",
    )
    times: Times | None = Field(
        default=None,
        description="Time grid of the teacher: steps + 1 times that fall from 1 to 0; null: uniform.",
    )
    gamma: Share = Field(
        default=0.0,
        description="Fraction of each jump that is noised again, 0 to 1; only for students that jump.",
    )
    shaping: Fraction = Field(
        default=0.0,
        description="Kinetic trajectory shaping: samples move faster early and slower late by this fraction, "
        ">= 0 and < 1.",
    )
    guidance: NotNegative = Field(
        default=1.0,
        description="Classifier-free guidance scale, >= 0; 1: no guidance, the only value that a student takes.",
    )
    ema: Fraction | None = Field(
        default=None,
        description="Decay of the average of the weights that is sampled: the ema or one of the averages of the "
        "teacher or distill block; null: its ema.",
    )
    calibrated: bool = Field(
        default=True,
        description="Let images end on the tone curve of their network, if it has one (teacher.calibrate, "
        "distill.calibrate).",
    )
    labels: Whole | Labels | None = Field(
        default=None,
        description="Class or list of classes, counted from 0; null: as frequent as in the data.",
    )


class Evaluation(Block):
    samples: Annotated[int, Ge(2), AfterValidator(fits)] = Field(
        default=1797, description="Images sampled for each measurement, >= 2."
    )
    metrics: Metrics = Field(
        default=("fid", "kid"),
        description="Any of fid, kid, precision, recall, inception_score, "
        "fid_per_class, and for points w2 (between 1,000 samples and 1,000 new points of the data) and log_likelihood "
        "(of new points under the network's flow; not for a student that defines no flow); at least one.",
    )
    features: Features = Field(
        default="auto",
        description="Feature extractor: digits-cnn-v1, mnist-cnn-v1, inception-v3-compat (FID), dinov2-vit-l-14 "
        "(FD-DINOv2) or its smaller -b- and -s- variants, own (a small network trained on the data set; its "
        "scores compare within this data set only), points (the coordinates); auto: the extractor shipped for the data "
        "set, points, or inception-v3-compat if its weights are given or on this machine, else own.",
    )
    second: Second = Field(
        default="auto",
        description="Second feature extractor, for fid_second in addition to fid: an effect that both "
        "extractors show is one of the images; its official weights are used. auto: digits-resnet-v1 for digits, "
        "mnist-resnet-v1 for mnist, which no training ever sees, else none; null: none.",
    )
    weights: FilePath | None = Field(
        default=None,
        description="File with the weights of inception-v3-compat or of a dinov2; null: the official weights, which "
        "are downloaded if features names the extractor.",
    )
    weights_sha256: Sha256 | None = Field(
        default=None,
        description="Expected SHA-256 of the file in weights, 64 hexadecimal digits; null: that of the official "
        "weights.",
    )
    every: Count | None = Field(
        default=None,
        description="Training steps between two measurements of the teacher's FID during training, >= 1; it samples "
        "the averaged weights with 20 ab2 steps; null: never.",
    )
    every_student: Count | None = Field(
        default=None,
        description="Training steps between two measurements of a student's FID during training, >= 1; it samples the "
        "averaged weights with the student's own steps; null: never.",
    )
    every_samples: Annotated[int, Ge(2), AfterValidator(fits)] = Field(
        default=256,
        description="Images sampled for each of these measurements, >= 2; few images bias FID upwards, so it is higher "
        "than with evaluation.samples.",
    )
    seeds: Count = Field(
        default=1,
        description="Number of sampling seeds with which each trial is sampled and measured, >= 1.",
    )
    diagnostics: Diagnostics = Field(
        default=("memorisation", "gap"),
        description="Diagnostics in addition to the metrics: any of memorisation (distance to the nearest training "
        "images) and gap (distance of a student's trajectory from its teacher's).",
    )

    def absolute(self) -> "Evaluation":
        """A copy whose paths are absolute, valid for processes in other working folders."""
        if not self.weights:
            return self.model_copy()
        return self.model_copy(update={"weights": absolute_path(self.weights)})


class Checkpoint(Block):
    steps: Count = Field(
        default=500, description="Maximum number of training steps between checkpoints, >= 1."
    )
    minutes: Positive = Field(default=2.0, description="Maximum minutes between checkpoints, > 0.")
    keep: Count = Field(
        default=2, description="Number of checkpoints kept of an unfinished stage, >= 1."
    )


class Batches(Protocol):
    """A training by its images of a step, and the parts into which they are split."""

    @property
    def batch_size(self) -> int: ...

    @property
    def accumulate(self) -> int: ...


class Cluster(Block):
    workers: Workers = Field(
        default=1,
        description="Data-parallel processes that train one network, >= 1; {min: 2, max: 8}: a group begins with at "
        "least 2, takes up workers that join, to 8, and continues with fewer when some are lost.",
    )
    cpus_per_worker: Positive = Field(default=1.0, description="CPUs of each worker, > 0.")
    gpus_per_worker: Annotated[NotNegative, AfterValidator(gpus)] = Field(
        default=0.0, description="GPUs of each worker, a fraction from 0 to 1 or a whole number."
    )
    compile: bool = Field(
        default=False,
        description="Whether to use torch.compile: a slower start, then faster steps.",
    )

    @property
    def min_workers(self) -> int:
        """The number of workers without which a group does not begin."""
        return self.workers["min"] if isinstance(self.workers, dict) else self.workers

    @property
    def max_workers(self) -> int:
        """The largest number of workers of a group."""
        return self.workers["max"] if isinstance(self.workers, dict) else self.workers

    def group_sizes(self, trainings: Iterable[Batches]) -> list[int]:
        """The numbers of workers, rising, that a group may have: those that divide the images of a
        step of each of `trainings`, and of each part of it, equally."""
        found = list(trainings)
        parts = [training.batch_size / training.accumulate for training in found]
        sizes = range(self.min_workers, int(min([self.max_workers, *parts])) + 1)
        return [size for size in sizes if not any(part % size for part in parts)]


class Tracking(Block):
    uri: Uri | None = Field(
        default=None,
        description="Address of an MLflow tracking server; null: an SQLite file under storage, if that is a folder.",
    )
    on_end: ShellCommand | None = Field(
        default=None,
        description="Shell command that is run once on the driver when a run ends, however it ends, for at most 60 s; "
        "{name}, {id}, {status} (done, failed or interrupted), {report} and {verdict} (paths) are replaced by their "
        "values, quoted; null: none.",
    )
