"""The tone curve of a network at the end of its training."""

import torch
from torch import nn

from kaccore.data import ImageData
from kaccore.sampling import evaluating
from kaccore.tensors import derive_seed, generator_for
from kaccore.tone import ToneCurve
from orchestrator.plan.stage import Stage
from orchestrator.settings.blocks import Sampling
from orchestrator.work.drawing import draw, labels_for

IMAGES = 1024  # that are drawn; with a quarter of them FID is the same within its noise
TEACHER = Sampling(model="teacher", solver="ab2", steps=20)
JUMPS = 4


def fit(stage: Stage, model: nn.Module, data: ImageData) -> ToneCurve:
    """The tone curve of the network `model` that `stage` has trained, from training images and from
    as many of its own: a teacher's by 20 steps of ab2, a student's by its steps, or by 4 jumps."""
    seed = derive_seed(stage.training_spec.seed, "calibration")
    count = min(len(data), IMAGES)
    labels = labels_for(stage, None, data, seed, range(count))
    with evaluating(model):
        made = draw(stage, setting(stage), model, data, range(count), seed, labels).images
    index = torch.randperm(len(data), generator=generator_for(seed, "real"))[:count]
    return ToneCurve.fit(made, data.batch(index, torch.device("cpu")))


def setting(stage: Stage) -> Sampling:
    """How the network of `stage` is sampled where no trial says so."""
    student = stage.student
    if student is None:
        return TEACHER
    steps = getattr(student, "intervals", 1)
    return Sampling(steps=min(steps, JUMPS) if student.jumps else steps)
