"""The requests to a worker group or a task: plain data that a driver builds without importing
torch."""

from dataclasses import dataclass
from typing import NamedTuple

from orchestrator.methods.dataset_kind import DatasetKind
from orchestrator.plan.stage import Stage
from orchestrator.settings.experiment import Experiment
from orchestrator.store import layout
from orchestrator.store.places import place_of
from orchestrator.store.run_requests import Orders


class FeatureWeights(NamedTuple):
    """A weights file of the feature extractor, with its checksum; (None, None): the official
    weights."""

    path: str | None = None
    sha256: str | None = None


OFFICIAL_WEIGHTS = FeatureWeights()


@dataclass(frozen=True)
class Saving:
    """The checkpoints of unfinished training: at most `steps` and `minutes` apart; the newest `keep`
    and the best one are kept."""

    steps: int
    minutes: float
    keep: int


@dataclass(frozen=True)
class Watch:
    """The measurement of FID during training: after each `every` steps of a teacher and each
    `every_student` steps of a student, `samples` images are compared with `reference`, a finished
    stage."""

    every: int | None
    every_student: int | None
    samples: int
    reference: Stage
    weights: FeatureWeights

    def due(self, stage: Stage, step: int) -> bool:
        """Whether `stage` is to be measured after `step`."""
        every = self.every if stage.kind == "teacher" else self.every_student
        return every is not None and step % every == 0


@dataclass(frozen=True)
class Job:
    """The training that a worker group is to do."""

    stages: tuple[Stage, ...]
    leases: tuple[int, ...]  # the number of the lease of each stage
    storage: str
    data: DatasetKind
    saving: Saving
    threads: int
    run: str  # the invocation: a failure is final for it, and the next one retries
    compile: bool = False
    watch: Watch | None = None

    @property
    def orders(self) -> Orders:
        """The orders of the invocation's driver."""
        return Orders(place_of(self.storage) / layout.RAY / self.run)


def weights_of(config: Experiment) -> FeatureWeights:
    """The weights of the feature extractor that `config` names."""
    return FeatureWeights(config.evaluation.weights, config.evaluation.weights_sha256)


def watch_of(config: Experiment, reference: Stage | None) -> Watch | None:
    """The measurement during training that `config` sets; None if it sets none."""
    evaluation = config.evaluation
    every, every_student = evaluation.every, evaluation.every_student
    if reference is None or (every is None and every_student is None):
        return None
    samples = evaluation.every_samples
    return Watch(every, every_student, samples, reference, weights_of(config))
