"""Trains a data set's own network, see `own_features`: on its classes, or on views."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from math import ceil

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from kaccore.data import ImageData, PointData
from kaccore.metrics.features import OWN_LEAST_IMAGES, OwnTraining
from kaccore.metrics.own_features import (
    CLASSES,
    VIEWS,
    OwnFeatures,
    OwnNetwork,
    OwnNetworkFacts,
    output_count,
)
from kaccore.tensors import generator_for

GALLERY = 64  # held-out images among which each one must be recognised


def train_own(
    data: ImageData,
    name: str,
    settings: OwnTraining | None = None,
    device: str | torch.device = "cpu",
) -> OwnFeatures:
    """A network trained on `data`, returned on the CPU; equal data, settings and device give equal
    networks.

    Trained on classes if at least two have two images each, else on views. Raises ValueError for
    points, and for fewer than 20 images."""
    settings = settings or OwnTraining()
    if isinstance(data, PointData) or len(data) < OWN_LEAST_IMAGES:
        what = "points" if isinstance(data, PointData) else f"{len(data)} images"
        raise ValueError(
            f"{data.name} has {what}; features of its own take {OWN_LEAST_IMAGES} images or more"
        )
    task = CLASSES if _has_classes(data) else VIEWS
    learn, held_out = _split(data, settings, task)
    steps = settings.steps_for(data.size)
    classes = data.classes if task == CLASSES else 0
    facts = OwnNetworkFacts(
        name, data.fingerprint, data.channels, data.size, task, classes, 0.0, 0.0, len(learn), len(held_out), steps
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        network = OwnNetwork(data.channels, data.size, output_count(facts)).to(device)
    loss = _class_loss if task == CLASSES else _view_loss
    with torch.backends.cudnn.flags(enabled=True, deterministic=True, benchmark=False):
        _optimise(network, data, learn, steps, settings, loss)
    network = network.eval().cpu()
    score = _class_score if task == CLASSES else _view_score
    accuracy, chance = score(network, data, held_out, settings)
    return OwnFeatures(network, replace(facts, held_out_accuracy=accuracy, chance=chance))


def _has_classes(data: ImageData) -> bool:
    """Whether at least two classes have two images each."""
    return data.labels is not None and int((data.labels.bincount() >= 2).sum()) >= 2


def _split(data: ImageData, settings: OwnTraining, task: str) -> tuple[Tensor, Tensor]:
    """Indices (to learn from, held out), in a random order. Of each class the same share is held
    out, and at least one image if it has two."""
    generator = generator_for(settings.seed, "held out")
    order = torch.randperm(len(data), generator=generator)
    share = min(settings.held_out, settings.held_out_most / len(data))
    groups = [order]
    if task == CLASSES:
        assert data.labels is not None
        labels = data.labels[order]
        groups = [order[labels == c] for c in range(data.classes)]
    held_out_parts, learn_parts = [], []
    for group in groups:
        count = max(1, int(share * len(group))) if len(group) > 1 else 0
        held_out_parts.append(group[:count])
        learn_parts.append(group[count:])
    held_out, learn = torch.cat(held_out_parts), torch.cat(learn_parts)
    return learn, held_out[torch.randperm(len(held_out), generator=generator)]


Loss = Callable[[OwnNetwork, Tensor, Tensor | None, OwnTraining, Generator], Tensor]


def _optimise(
    network: OwnNetwork,
    data: ImageData,
    learn: Tensor,
    steps: int,
    settings: OwnTraining,
    loss: Loss,
) -> None:
    device = next(network.parameters()).device
    generator = generator_for(settings.seed, "training")
    optimizer = torch.optim.AdamW(
        network.parameters(), lr=settings.lr, weight_decay=settings.weight_decay
    )
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    batch = settings.batch if loss is _class_loss else settings.batch // 2  # two views an image
    remaining = learn[:0]  # of this epoch
    for _ in range(steps):
        if len(remaining) < min(batch, len(learn)):
            remaining = learn[torch.randperm(len(learn), generator=generator)]
        index, remaining = remaining[:batch], remaining[batch:]
        labels = None if data.labels is None else data.labels[index].to(device)
        optimizer.zero_grad()
        loss(network, data.batch(index, device), labels, settings, generator).backward()
        optimizer.step()
        schedule.step()


def _class_loss(
    network: OwnNetwork,
    x: Tensor,
    labels: Tensor | None,
    settings: OwnTraining,
    generator: Generator,
) -> Tensor:
    """Cross entropy of the classes, of randomly shifted images."""
    assert labels is not None
    _, logits = network(_shifted(x, settings.shift, generator))
    return F.cross_entropy(logits, labels, label_smoothing=0.05)


def _view_loss(
    network: OwnNetwork,
    x: Tensor,
    labels: Tensor | None,
    settings: OwnTraining,
    generator: Generator,
) -> Tensor:
    """InfoNCE in both directions: cross entropy of which second view is of the same image as each
    first view, and vice versa."""
    similarity = _similarity(network, _random_view(x, generator), _random_view(x, generator))
    similarity = similarity / settings.temperature
    own = torch.arange(len(x), device=x.device)
    return (F.cross_entropy(similarity, own) + F.cross_entropy(similarity.T, own)) / 2


def _similarity(network: OwnNetwork, first: Tensor, second: Tensor) -> Tensor:
    """Cosines (B, B) of the codes of two batches of views."""
    one, other = (F.normalize(network(views)[1], dim=1) for views in (first, second))
    return one @ other.T


def _shifted(x: Tensor, share: float, generator: Generator) -> Tensor:
    """Each image of x (B, C, H, H) shifted randomly by up to `share` of its size in each direction;
    the border is repeated."""
    limit = ceil(share * x.shape[-1])
    padded = F.pad(x, (limit,) * 4, mode="replicate")
    row, column = torch.randint(0, 2 * limit + 1, (2, len(x)), generator=generator).tolist()
    size = x.shape[-1]
    shifted = []
    for image, r, c in zip(padded, row, column, strict=True):
        shifted.append(image[:, r : r + size, c : c + size])
    return torch.stack(shifted)


def _random_view(x: Tensor, generator: Generator) -> Tensor:
    """A random view of each image of x (B, C, H, H): a square of 60 to 100 % of its side, resized to
    the full size, with another contrast, another brightness of each channel, and noise."""

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return (low + (high - low) * torch.rand(len(x), *shape, generator=generator)).to(x.device)

    scale = uniform(0.6, 1.0, 1)
    offset = uniform(-1.0, 1.0, 2) * (1 - scale)
    eye = torch.eye(2, device=x.device) * scale[:, :, None]
    grid = F.affine_grid(
        torch.cat([eye, offset[:, :, None]], dim=2), list(x.shape), align_corners=False
    )
    square = F.grid_sample(x, grid, padding_mode="border", align_corners=False)
    view = square * uniform(0.7, 1.3, 1, 1, 1) + uniform(-0.2, 0.2, x.shape[1], 1, 1)
    return view + 0.05 * torch.randn(x.shape, generator=generator).to(x.device)


@torch.no_grad()
def _class_score(
    network: OwnNetwork, data: ImageData, held_out: Tensor, settings: OwnTraining
) -> tuple[float, float]:
    """The share of held-out images that are classified correctly, and the share of the largest
    class."""
    assert data.labels is not None
    labels = data.labels[held_out]
    predicted = torch.cat(
        [network(data.batch(index))[1].argmax(1) for index in held_out.split(256)]
    )
    accuracy = float((predicted == labels).float().mean())
    return accuracy, float(labels.bincount().max() / len(labels))


@torch.no_grad()
def _view_score(
    network: OwnNetwork, data: ImageData, held_out: Tensor, settings: OwnTraining
) -> tuple[float, float]:
    """The share of held-out images whose other view is recognised among those of GALLERY images, or
    of all if there are fewer; and that share for guessing."""
    generator = generator_for(settings.seed, "score")
    total = 0.0
    size = min(GALLERY, len(held_out))
    galleries = [index for index in held_out.split(GALLERY) if len(index) == size]
    for index in galleries:
        x = data.batch(index)
        similarity = _similarity(network, _random_view(x, generator), _random_view(x, generator))
        total += float((similarity.argmax(1) == torch.arange(len(x))).float().mean())
    return total / len(galleries), 1 / size
