"""Trains a data set's own network, see `own_features`: by its classes, or by views."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from math import ceil

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from kaccore.data import ImageData, PointData
from kaccore.metrics.features import OWN_LEAST_IMAGES, OwnTraining
from kaccore.metrics.own_features import CLASSES, VIEWS, About, OwnFeatures, OwnNetwork, outputs
from kaccore.tensors import generator_for

GALLERY = 64  # held-out images among which one is to be recognised


def train_own(
    data: ImageData,
    name: str,
    settings: OwnTraining | None = None,
    device: str | torch.device = "cpu",
) -> OwnFeatures:
    """A network trained on `data`, on the CPU when it returns; the same data, settings and device
    give the same one.

    By classes where at least two have two images each, else by views. Raises ValueError for points,
    and for fewer than 20 images."""
    settings = settings or OwnTraining()
    if isinstance(data, PointData) or len(data) < OWN_LEAST_IMAGES:
        what = "points" if isinstance(data, PointData) else f"{len(data)} images"
        raise ValueError(
            f"{data.name} has {what}; features of its own take {OWN_LEAST_IMAGES} images or more"
        )
    task = CLASSES if _tells_classes(data) else VIEWS
    learn, held_out = _split(data, settings, task)
    steps = settings.steps_for(data.size)
    about = About(name, data.fingerprint, data.channels, data.size, task, data.classes if task == CLASSES else 0,
                  0.0, 0.0, len(learn), len(held_out), steps)  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        network = OwnNetwork(data.channels, data.size, outputs(about)).to(device)
    loss = _class_loss if task == CLASSES else _view_loss
    with torch.backends.cudnn.flags(enabled=True, deterministic=True, benchmark=False):
        _optimise(network, data, learn, steps, settings, loss)
    network = network.eval().cpu()
    score = _class_score if task == CLASSES else _view_score
    accuracy, chance = score(network, data, held_out, settings)
    return OwnFeatures(network, replace(about, held_out_accuracy=accuracy, chance=chance))


def _tells_classes(data: ImageData) -> bool:
    return data.labels is not None and int((data.labels.bincount() >= 2).sum()) >= 2


def _split(data: ImageData, settings: OwnTraining, task: str) -> tuple[Tensor, Tensor]:
    """Indices (to learn from, held out), in a random order; of each class the same share, and one
    image at least where it has two."""
    generator = generator_for(settings.seed, "held out")
    order = torch.randperm(len(data), generator=generator)
    share = min(settings.held_out, settings.held_out_most / len(data))
    groups = [order]
    if task == CLASSES:
        assert data.labels is not None
        labels = data.labels[order]
        groups = [order[labels == c] for c in range(data.classes)]
    counts = [max(1, int(share * len(group))) if len(group) > 1 else 0 for group in groups]
    held_out = torch.cat([group[:n] for group, n in zip(groups, counts, strict=True)])
    learn = torch.cat([group[n:] for group, n in zip(groups, counts, strict=True)])
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
    batch, left = settings.batch // (1 if loss is _class_loss else 2), learn[:0]
    for _ in range(steps):
        if len(left) < min(batch, len(learn)):
            left = learn[torch.randperm(len(learn), generator=generator)]
        at, left = left[:batch], left[batch:]
        labels = None if data.labels is None else data.labels[at].to(device)
        optimizer.zero_grad()
        loss(network, data.batch(at, device), labels, settings, generator).backward()
        optimizer.step()
        schedule.step()


def _class_loss(
    network: OwnNetwork,
    x: Tensor,
    labels: Tensor | None,
    settings: OwnTraining,
    generator: Generator,
) -> Tensor:
    """Cross entropy of the classes, of images moved a little."""
    assert labels is not None
    return F.cross_entropy(
        network(_moved(x, settings.shift, generator))[1], labels, label_smoothing=0.05
    )


def _view_loss(
    network: OwnNetwork,
    x: Tensor,
    labels: Tensor | None,
    settings: OwnTraining,
    generator: Generator,
) -> Tensor:
    """InfoNCE both ways: cross entropy of which of the second views belongs to each first one, and
    vice versa."""
    similar = _similar(network, _viewed(x, generator), _viewed(x, generator)) / settings.temperature
    own = torch.arange(len(x), device=x.device)
    return (F.cross_entropy(similar, own) + F.cross_entropy(similar.T, own)) / 2


def _similar(network: OwnNetwork, first: Tensor, second: Tensor) -> Tensor:
    """Cosines (B, B) of the codes of two batches of views."""
    one, other = (F.normalize(network(each)[1], dim=1) for each in (first, second))
    return one @ other.T


def _moved(x: Tensor, share: float, generator: Generator) -> Tensor:
    """Each image of x (B, C, H, H) moved by up to `share` of its size each way, its border
    repeated."""
    limit = ceil(share * x.shape[-1])
    padded = F.pad(x, (limit,) * 4, mode="replicate")
    row, column = torch.randint(0, 2 * limit + 1, (2, len(x)), generator=generator).tolist()
    size = x.shape[-1]
    return torch.stack(
        [
            image[:, r : r + size, c : c + size]
            for image, r, c in zip(padded, row, column, strict=True)
        ]
    )


def _viewed(x: Tensor, generator: Generator) -> Tensor:
    """A random view of each image of x (B, C, H, H): a square of 60 to 100 % of its sides brought
    to its size, its contrast and the brightness of each channel changed, and noise."""

    def drawn(low: float, high: float, *shape: int) -> Tensor:
        return (low + (high - low) * torch.rand(len(x), *shape, generator=generator)).to(x.device)

    scale = drawn(0.6, 1.0, 1)
    offset = drawn(-1.0, 1.0, 2) * (1 - scale)
    eye = torch.eye(2, device=x.device) * scale[:, :, None]
    grid = F.affine_grid(
        torch.cat([eye, offset[:, :, None]], dim=2), list(x.shape), align_corners=False
    )
    square = F.grid_sample(x, grid, padding_mode="border", align_corners=False)
    changed = square * drawn(0.7, 1.3, 1, 1, 1) + drawn(-0.2, 0.2, x.shape[1], 1, 1)
    return changed + 0.05 * torch.randn(x.shape, generator=generator).to(x.device)


@torch.no_grad()
def _class_score(
    network: OwnNetwork, data: ImageData, held_out: Tensor, settings: OwnTraining
) -> tuple[float, float]:
    """The share of held-out images put in their class, and the share of the largest class among
    them."""
    assert data.labels is not None
    labels = data.labels[held_out]
    found = torch.cat([network(data.batch(at))[1].argmax(1) for at in held_out.split(256)])
    return float((found == labels).float().mean()), float(labels.bincount().max() / len(labels))


@torch.no_grad()
def _view_score(
    network: OwnNetwork, data: ImageData, held_out: Tensor, settings: OwnTraining
) -> tuple[float, float]:
    """The share of held-out images whose other view is found among those of 64, or of all there
    are; and by chance."""
    generator = generator_for(settings.seed, "score")
    right = 0.0
    galleries = [at for at in held_out.split(GALLERY) if len(at) == min(GALLERY, len(held_out))]
    for at in galleries:
        x = data.batch(at)
        found = _similar(network, _viewed(x, generator), _viewed(x, generator)).argmax(1)
        right += float((found == torch.arange(len(x))).float().mean())
    return right / len(galleries), 1 / len(galleries[0])
