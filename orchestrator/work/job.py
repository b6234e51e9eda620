"""What is asked of a worker group or a task: plain data, which whoever asks holds without importing
torch."""

from dataclasses import dataclass
from typing import NamedTuple

from orchestrator.methods.dataset_kind import DatasetKind
from orchestrator.plan.stage import Stage
from orchestrator.settings.experiment import Experiment


class FeatureWeights(NamedTuple):
    """A weights file for the feature extractor, with its checksum; (None, None): the extractor's
    own."""

    path: str | None = None
    sha256: str | None = None


@dataclass(frozen=True)
class Saving:
    """How unfinished training is saved: at most so many `steps` and `minutes` apart; the newest
    `keep` checkpoints stay, and the best one."""

    steps: int
    minutes: float
    keep: int


@dataclass(frozen=True)
class Watch:
    """Every so many steps `samples` images of the teacher are compared with `reference`, a finished
    stage."""

    every: int
    samples: int
    reference: Stage
    weights: FeatureWeights

    def due(self, stage: Stage, step: int) -> bool:
        """Whether `stage` is to be measured after `step`."""
        return stage.kind == "teacher" and step % self.every == 0


@dataclass(frozen=True)
class Job:
    """What a worker group is asked to do."""

    stages: tuple[Stage, ...]
    leases: tuple[int, ...]  # the number of the lease under which each is run
    storage: str
    data: DatasetKind
    saving: Saving
    threads: int
    run: str  # the invocation that asks: a failure is final for it, and tried again by the next one
    compile: bool = False
    watch: Watch | None = None


def weights_of(config: Experiment) -> FeatureWeights:
    """The weights of the feature extractor that `config` names."""
    return FeatureWeights(config.evaluation.weights, config.evaluation.weights_sha256)


def watch_of(config: Experiment, reference: Stage | None) -> Watch | None:
    """How a run watches its teacher; None where it does not."""
    evaluation = config.evaluation
    if evaluation.every is None or reference is None:
        return None
    return Watch(evaluation.every, evaluation.every_samples, reference, weights_of(config))
