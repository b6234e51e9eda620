"""A data set's own features: a small network trained once on the data set itself, for where no other features suit it or
can be had. Its numbers compare within that data set alone.

    labelled images    it tells their classes apart, as the shipped classifiers do
    unlabelled images  it tells the images apart: of a batch of images in two random views each (another crop, brightness,
                       contrast, noise) it finds the two that belong together (InfoNCE, as in SimCLR, arXiv 2002.05709)

Why views: to predict a rotation teaches nothing where images are symmetrical or have no upright position (digits 0, 1
and 8, textures, cells, galaxies), and an autoencoder's code is of pixels more than of content. Views need nothing of
the images but that they differ. What the views change the features are told to overlook, so the changes are mild; and
the features are taken before the layer that the loss is of, where much of what it overlooks is still there.

A fifth of the images, of each class alike, is held out; the score on it comes with what guessing would score.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from math import ceil
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save
from torch import Generator, Tensor, nn

from kaccore.data import ImageData, PointData, from_uint8
from kaccore.features import FeatureSpec
from kaccore.files import write_bytes
from kaccore.tensors import generator_for

WIDTH = 64  # features
CODE = 32  # numbers by which views are recognised
CLASSES, VIEWS = "classes", "views"  # what a network was trained to tell apart
LEAST_IMAGES = 20
GALLERY = 64  # held-out images among which one is to be recognised


@dataclass(frozen=True)
class OwnTraining:
    """How an own network is trained: at most `steps` steps, fewer of large images, so that it takes a minute on a core.

    A step takes `batch` images or views, two views an image. `held_out` is a share of the images, of which no more than `held_out_most` are taken; `shift` a share of the size.
    """

    steps: int = 600
    batch: int = 64
    lr: float = 2e-3
    weight_decay: float = 1e-3
    held_out: float = 0.2
    held_out_most: int = 2000
    shift: float = 0.08
    temperature: float = 0.2
    seed: int = 0

    def steps_for(self, size: int) -> int:
        """Steps for images of `size` pixels a side: those of large images cost more, and are fewer."""
        return max(self.steps // 6, int(self.steps * min(1.0, (32 / size) ** 1.5)))


@dataclass(frozen=True)
class About:
    """What is known of an own network, kept in its file.

    name               that its numbers carry
    data_fingerprint   of the data set that it knows
    task               `classes` or `views`
    classes            how many it tells apart; 0: none, it was trained by views
    held_out_accuracy  share of held-out images put in their class, or recognised among others
    chance             what guessing would score
    """

    name: str
    data_fingerprint: str
    channels: int
    size: int
    task: str
    classes: int
    held_out_accuracy: float
    chance: float
    trained_on: int
    held_out: int
    steps: int

    @property
    def spec(self) -> FeatureSpec:
        """What its extractor takes and gives."""
        return FeatureSpec(self.name, self.channels, self.size, WIDTH, self.classes)

    def __str__(self) -> str:
        what = "put in their class" if self.task == CLASSES else f"recognised among {round(1 / self.chance)}"
        of = f"{self.held_out_accuracy:.1%} of {self.held_out} held-out images {what}"
        return f"{self.name}: {of} (by chance {self.chance:.1%})"


class OwnNetwork(nn.Module):
    """(N, C, H, H) float in [-1, 1] -> (features (N, 64), outputs (N, outputs)).

    Convolutions halve the image until it is 3 or 4 pixels a side, the first by four where it is large. As in the shipped
    classifiers SiLU keeps the features smooth in the pixels, and without batch norm an image's features depend on that
    image alone.
    """

    def __init__(self, channels: int, size: int, outputs: int) -> None:
        super().__init__()
        kernel, stride = (3, 1) if size <= 32 else (3, 2) if size < 128 else (5, 4)
        layers: list[nn.Module] = [nn.Conv2d(channels, 16, kernel, stride, kernel // 2), nn.SiLU()]
        side, width = ceil(size / stride), 16
        while side > 4:
            wider = min(width + 16, WIDTH)
            layers += [nn.Conv2d(width, wider, 3, 2, 1), nn.SiLU()]
            side, width = ceil(side / 2), wider
        layers += [nn.Conv2d(width, WIDTH, 3, 1, 1), nn.SiLU()]
        self.body = nn.Sequential(*layers, nn.AvgPool2d(2, ceil_mode=True), nn.Flatten())
        self.hidden = nn.Sequential(nn.Linear(WIDTH * ceil(side / 2) ** 2, WIDTH), nn.SiLU())
        self.head = nn.Linear(WIDTH, outputs)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        features = self.hidden(self.body(x))
        return features, self.head(features)


class OwnFeatures(nn.Module):
    """Images uint8 (N, C, H, H) of the data set's size -> (features (N, 64), logits (N, classes))."""

    def __init__(self, network: OwnNetwork, about: About) -> None:
        super().__init__()
        self.network, self.about = network, about
        self.requires_grad_(False)
        self.eval()

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        features, outputs = self.network(from_uint8(images))
        return features, outputs[:, : self.about.classes]

    def save(self, path: str | Path) -> None:
        """Write a safetensors file with what is known of the network. Equal networks give equal bytes."""
        state = {key: value.cpu().contiguous() for key, value in self.network.state_dict().items()}
        # one entry, as safetensors writes several in a random order
        write_bytes(Path(path), save(state, {"about": json.dumps(asdict(self.about))}))


def read_about(path: str | Path | None, name: str | None = None) -> About:
    """What the file of an own network says of it. Raises ValueError for no file, for any other file, and for that of a
    network that is not called `name`."""
    if path is None:
        raise ValueError(f"features {name!r} are of a network trained on one data set: give its file as `weights`")
    try:
        with safe_open(str(path), framework="pt") as file:
            about = About(**json.loads((file.metadata() or {})["about"]))
    except (OSError, KeyError, TypeError, ValueError, SafetensorError) as error:
        raise ValueError(f"{str(path)!r} is not an own network's file ({error}); train it again") from error
    if name is not None and about.name != name:
        raise ValueError(f"{str(path)!r} is the network {about.name}, not {name}: their numbers do not compare")
    return about


def load_own(path: str | Path, name: str | None = None) -> OwnFeatures:
    """The network that `OwnFeatures.save` wrote; raises what `read_about` raises."""
    about = read_about(path, name)
    network = OwnNetwork(about.channels, about.size, _outputs(about))
    network.load_state_dict(load_file(path))
    return OwnFeatures(network, about)


def train_own(
    data: ImageData, name: str, settings: OwnTraining | None = None, device: str | torch.device = "cpu"
) -> OwnFeatures:
    """A network trained on `data`, on the CPU when it returns; the same data, settings and device give the same one.

    By classes where at least two have two images each, else by views. Raises ValueError for points, and for fewer than
    20 images.
    """
    settings = settings or OwnTraining()
    if isinstance(data, PointData) or len(data) < LEAST_IMAGES:
        what = "points" if isinstance(data, PointData) else f"{len(data)} images"
        raise ValueError(f"{data.name} has {what}; features of its own take {LEAST_IMAGES} images or more")
    task = CLASSES if _tells_classes(data) else VIEWS
    learn, held_out = _split(data, settings, task)
    steps = settings.steps_for(data.size)
    about = About(name, data.fingerprint, data.channels, data.size, task, data.classes if task == CLASSES else 0,
                  0.0, 0.0, len(learn), len(held_out), steps)  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        network = OwnNetwork(data.channels, data.size, _outputs(about)).to(device)
    loss = _class_loss if task == CLASSES else _view_loss
    with torch.backends.cudnn.flags(enabled=True, deterministic=True, benchmark=False):
        _optimise(network, data, learn, steps, settings, loss)
    network = network.eval().cpu()
    score = _class_score if task == CLASSES else _view_score
    accuracy, chance = score(network, data, held_out, settings)
    return OwnFeatures(network, replace(about, held_out_accuracy=accuracy, chance=chance))


def _outputs(about: About) -> int:
    return about.classes or CODE


def _tells_classes(data: ImageData) -> bool:
    return data.labels is not None and int((data.labels.bincount() >= 2).sum()) >= 2


def _split(data: ImageData, settings: OwnTraining, task: str) -> tuple[Tensor, Tensor]:
    """Indices (to learn from, held out), in a random order; of each class the same share, and one at least of those that
    have two images."""
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
    network: OwnNetwork, data: ImageData, learn: Tensor, steps: int, settings: OwnTraining, loss: Loss
) -> None:
    device = next(network.parameters()).device
    generator = generator_for(settings.seed, "training")
    optimizer = torch.optim.AdamW(network.parameters(), lr=settings.lr, weight_decay=settings.weight_decay)
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
    network: OwnNetwork, x: Tensor, labels: Tensor | None, settings: OwnTraining, generator: Generator
) -> Tensor:
    """Cross entropy of the classes, of images moved a little."""
    assert labels is not None
    return F.cross_entropy(network(_moved(x, settings.shift, generator))[1], labels, label_smoothing=0.05)


def _view_loss(
    network: OwnNetwork, x: Tensor, labels: Tensor | None, settings: OwnTraining, generator: Generator
) -> Tensor:
    """InfoNCE both ways: cross entropy of which of the second views belongs to each first one, and vice versa."""
    similar = _similar(network, _viewed(x, generator), _viewed(x, generator)) / settings.temperature
    own = torch.arange(len(x), device=x.device)
    return (F.cross_entropy(similar, own) + F.cross_entropy(similar.T, own)) / 2


def _similar(network: OwnNetwork, first: Tensor, second: Tensor) -> Tensor:
    """Cosines (B, B) of the codes of two batches of views."""
    one, other = (F.normalize(network(each)[1], dim=1) for each in (first, second))
    return one @ other.T


def _moved(x: Tensor, share: float, generator: Generator) -> Tensor:
    """Each image of x (B, C, H, H) moved by up to `share` of its size each way, its border repeated."""
    limit = ceil(share * x.shape[-1])
    padded = F.pad(x, (limit,) * 4, mode="replicate")
    row, column = torch.randint(0, 2 * limit + 1, (2, len(x)), generator=generator).tolist()
    size = x.shape[-1]
    return torch.stack([image[:, r : r + size, c : c + size] for image, r, c in zip(padded, row, column, strict=True)])


def _viewed(x: Tensor, generator: Generator) -> Tensor:
    """A random view of each image of x (B, C, H, H): a square of 60 to 100 % of its sides brought to its size, its
    contrast and the brightness of each channel changed, and noise."""
    def drawn(low: float, high: float, *shape: int) -> Tensor:
        return (low + (high - low) * torch.rand(len(x), *shape, generator=generator)).to(x.device)

    scale = drawn(0.6, 1.0, 1)
    offset = drawn(-1.0, 1.0, 2) * (1 - scale)
    eye = torch.eye(2, device=x.device) * scale[:, :, None]
    grid = F.affine_grid(torch.cat([eye, offset[:, :, None]], dim=2), list(x.shape), align_corners=False)
    square = F.grid_sample(x, grid, padding_mode="border", align_corners=False)
    changed = square * drawn(0.7, 1.3, 1, 1, 1) + drawn(-0.2, 0.2, x.shape[1], 1, 1)
    return changed + 0.05 * torch.randn(x.shape, generator=generator).to(x.device)


@torch.no_grad()
def _class_score(network: OwnNetwork, data: ImageData, held_out: Tensor, settings: OwnTraining) -> tuple[float, float]:
    """The share of held-out images put in their class, and the share of the largest class among them."""
    assert data.labels is not None
    labels = data.labels[held_out]
    found = torch.cat([network(data.batch(at))[1].argmax(1) for at in held_out.split(256)])
    return float((found == labels).float().mean()), float(labels.bincount().max() / len(labels))


@torch.no_grad()
def _view_score(network: OwnNetwork, data: ImageData, held_out: Tensor, settings: OwnTraining) -> tuple[float, float]:
    """The share of held-out images whose other view is found among those of 64, or of all there are; and by chance."""
    generator = generator_for(settings.seed, "score")
    right, galleries = 0.0, [at for at in held_out.split(GALLERY) if len(at) == min(GALLERY, len(held_out))]
    for at in galleries:
        x = data.batch(at)
        found = _similar(network, _viewed(x, generator), _viewed(x, generator)).argmax(1)
        right += float((found == torch.arange(len(x))).float().mean())
    return right / len(galleries), 1 / len(galleries[0])
