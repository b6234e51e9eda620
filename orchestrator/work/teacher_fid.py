"""The FID of a teacher while it trains: few images of its averaged weights, every so many steps."""

from torch import nn

from kaccore.data import ImageData
from kaccore.metrics.fid import Reference, compare, extract
from kaccore.tensors import derive_seed
from orchestrator.plan.stage import Stage
from orchestrator.settings.blocks import Sampling
from orchestrator.store.store import Store
from orchestrator.work.evaluation import draw, labels_for, measured_with
from orchestrator.work.job import Watch

# of every teacher, however its trials sample
SAMPLING = Sampling(model="teacher", solver="ab2", steps=20)


def fid(watch: Watch, model: nn.Module, stage: Stage, data: ImageData, store: Store) -> float:
    """FID of the network that `stage` trains, always of the same noise: biased up by few images,
    and so to be compared with others of as many alone. `model` is in evaluation mode, as averaged
    networks are."""
    features, extraction = measured_with(watch.reference, store, watch.weights)
    seed = derive_seed(stage.training_spec.seed, "watch")
    device, indices = str(next(model.parameters()).device), range(watch.samples)
    labels = labels_for(stage, None, data, seed, indices)
    images = data.from_floats(draw(stage, SAMPLING, model, data, indices, seed, labels).images)
    found = extract(images, features, device=device, **extraction)
    reference = Reference.load(store.result(watch.reference.key).path("reference.safetensors"))
    return compare(found, reference, ["fid"])["fid"]
