"""The FID of a teacher while it trains: few images of its averaged weights, every so many steps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import nn

from kaccore.data import ImageData
from kaccore.tensors import derive_seed
from orchestrator.config import Experiment
from orchestrator.graph import Stage
from orchestrator.store import Store

if TYPE_CHECKING:
    from orchestrator.evaluation import FeatureWeights

SAMPLING = {"solver": "ab2", "steps": 20, "guidance": 1.0}  # of every teacher, however its trials sample


@dataclass(frozen=True)
class Watch:
    """Every so many steps `samples` images of the teacher are compared with `reference`, a finished stage."""

    every: int
    samples: int
    reference: Stage
    weights: FeatureWeights

    def due(self, stage: Stage, step: int) -> bool:
        """Whether `stage` is to be measured after `step`."""
        return stage.kind == "teacher" and step % self.every == 0

    def fid(self, model: nn.Module, stage: Stage, data: ImageData, store: Store) -> float:
        """FID of the network that `stage` trains, always of the same noise: biased up by few images, and so to be
        compared with others of as many alone. `model` is in evaluation mode, as averaged networks are."""
        # these bring torchvision, seconds that most teachers can spare
        from kaccore.fid import Reference, compare, extract
        from orchestrator.evaluation import draw, labels_for

        features, seed = self.reference.config["features"], derive_seed(stage.config["seed"], "watch")
        device, indices = str(next(model.parameters()).device), range(self.samples)
        labels = labels_for(stage, None, data, seed, indices)
        images = data.from_floats(draw(stage, SAMPLING, model, data, indices, seed, labels).images)
        weights = {"weights": self.weights.path, "weights_sha256": self.weights.sha256}
        found = extract(images, features, device=device, **weights)
        reference = Reference.load(store.result(self.reference.key).path("reference.safetensors"))
        return compare(found, reference, ["fid"])["fid"]


def watch_of(config: Experiment, reference: Stage | None) -> Watch | None:
    """How a run watches its teacher; None where it does not."""
    evaluation = config.evaluation
    if evaluation.every is None or reference is None:
        return None
    from orchestrator.evaluation import FeatureWeights

    weights = FeatureWeights(evaluation.weights, evaluation.weights_sha256)
    return Watch(evaluation.every, evaluation.every_samples, reference, weights)
