"""The FID of a teacher during training, from few images sampled with its averaged weights."""

from torch import nn

from kaccore.data import ImageData
from kaccore.metrics.fid import Reference, compare, extract
from kaccore.tensors import derive_seed
from orchestrator.plan.stage import Stage
from orchestrator.settings.blocks import Sampling
from orchestrator.store.store import Store
from orchestrator.work.drawing import draw, labels_for
from orchestrator.work.evaluation import measured_with
from orchestrator.work.job import Watch

# the same for all teachers, independent of the sampling settings of trials
SAMPLING = Sampling(model="teacher", solver="ab2", steps=20)


def fid(watch: Watch, model: nn.Module, stage: Stage, data: ImageData, store: Store) -> float:
    """The FID of the network that `stage` trains, always with the same noise. Few images bias it
    upwards: it compares only with the FID of equally many images. `model` is in evaluation mode, as
    averaged networks are."""
    features, extraction = measured_with(watch.reference, store, watch.weights)
    seed = derive_seed(stage.training_spec.seed, "watch")
    device = str(next(model.parameters()).device)
    indices = range(watch.samples)
    labels = labels_for(stage, None, data, seed, indices)
    images = data.from_floats(draw(stage, SAMPLING, model, data, indices, seed, labels).images)
    outputs = extract(images, features, device=device, **extraction)
    reference = Reference.load(store.result(watch.reference.key).path("reference.safetensors"))
    return compare(outputs, reference, ["fid"])["fid"]
