"""Samples of a network at the end of its training: what a report shows where nothing was measured."""

from torch import nn

from kaccore.data import ImageData, PointData
from kaccore.sampling import evaluating
from kaccore.tensors import derive_seed
from orchestrator.plan.stage import Stage
from orchestrator.work.calibration import setting
from orchestrator.work.drawing import draw, labels_for
from orchestrator.work.looks import SHOWN, small_picture

POINTS = 1000  # of a scatter plot


def png(stage: Stage, model: nn.Module, data: ImageData) -> bytes:
    """A picture of a few samples, a PNG file: a teacher's by 20 steps of ab2, a student's by its
    steps, or by 4 jumps. The seed is that of the run. Draws no number from torch's own generators."""
    seed = derive_seed(stage.training_spec.seed, "final samples")
    indices = range(POINTS if isinstance(data, PointData) else SHOWN)
    labels = labels_for(stage, None, data, seed, indices)
    with evaluating(model):
        made = draw(stage, setting(stage), model, data, indices, seed, labels).images
    return small_picture(data.from_floats(made), data)
