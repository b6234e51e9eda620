"""A look at a network during training: its FID, from few images sampled with its averaged weights,
and some of these images."""

import math

import torch
from torch import Tensor, nn

from kaccore.data import ImageData, PointData
from kaccore.metrics.fid import Reference, compare, extract
from kaccore.metrics.frechet import Moments, bootstrap_fid
from kaccore.tensors import derive_seed
from orchestrator.plan.stage import Stage
from orchestrator.store.store import Store
from orchestrator.work.calibration import setting
from orchestrator.work.drawing import draw, labels_for
from orchestrator.work.evaluation import WIDE, measured_with
from orchestrator.work.job import Watch
from orchestrator.work.pictures import grid_png, samples_png
from orchestrator.work.training_log import Look

SHOWN, COLUMNS = 16, 4  # the images of the picture
RESAMPLES = 50  # of the images, for the noise of their FID
LARGEST = 64  # pixels a side to which its images are reduced


def look(watch: Watch, model: nn.Module, stage: Stage, data: ImageData, store: Store) -> Look:
    """The FID of the network that `stage` trains, always with the same noise, and a picture of its
    first images: of a teacher by 20 steps of ab2, of a student by its own steps, whatever trials
    sample. Few images bias FID upwards: it compares only with the FID of equally many images.
    `model` is in evaluation mode, as averaged networks are. Draws no number from torch's own
    generators, so that training is the same with it and without."""
    features, extraction = measured_with(watch.reference, store, watch.weights)
    seed = derive_seed(stage.training_spec.seed, "watch")
    device = str(next(model.parameters()).device)
    indices = range(watch.samples)
    labels = labels_for(stage, None, data, seed, indices)
    images = data.from_floats(
        draw(stage, setting(stage), model, data, indices, seed, labels).images
    )
    outputs = extract(images, features, device=device, **extraction)
    reference = Reference.load(store.result(watch.reference.key).path("reference.safetensors"))
    std = math.nan
    if reference.mean.numel() <= WIDE:  # a resample of wider features takes seconds
        real = Moments(reference.mean, reference.covariance)
        known = None if labels is None else [labels]
        found = bootstrap_fid([outputs], real, known, resamples=RESAMPLES, seed=seed)
        std = math.sqrt(found.variance())
    return Look(compare(outputs, reference, ["fid"])["fid"], small_picture(images, data), std)


def small_picture(images: Tensor, data: ImageData) -> bytes:
    """The first images as a PNG grid; for points a scatter plot of all of them."""
    if isinstance(data, PointData):
        return samples_png(images, data)
    shown = images[:SHOWN]
    if data.size > LARGEST:
        shown = torch.nn.functional.interpolate(shown, LARGEST, mode="bicubic", antialias=True)
    return grid_png(shown, COLUMNS)
