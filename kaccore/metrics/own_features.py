"""A data set's own features: a small network trained once on the data set itself, for where no
other features suit it or can be had. Its numbers compare within that data set alone. `own_training`
trains it.

    labelled images    it tells their classes apart, as the shipped classifiers do
    unlabelled images  it tells the images apart: of a batch of images in two random views each (another crop, another
                       brightness and contrast, noise) it finds the two that belong together (InfoNCE, as in SimCLR,
                       arXiv 2002.05709)

Why views: to predict a rotation teaches nothing where images are symmetrical or have no upright
position (digits 0, 1 and 8, textures, cells, galaxies), and an autoencoder's code is of pixels more
than of content. Views need nothing of the images but that they differ. What the views change the
features are told to overlook, so the changes are mild; and the features are taken before the layer
that the loss is of, where much of what it overlooks is still there.

A fifth of the images, of each class alike, is held out; the score on it comes with what guessing
would score."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from math import ceil
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save
from torch import Tensor, nn

from kaccore.data import ImageData, from_uint8
from kaccore.files import write_bytes
from kaccore.metrics.features import FeatureSpec

WIDTH = 64  # features
CODE = 32  # numbers by which views are recognised
CLASSES, VIEWS = "classes", "views"  # what a network was trained to tell apart


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
        what = (
            "put in their class"
            if self.task == CLASSES
            else f"recognised among {round(1 / self.chance)}"
        )
        of = f"{self.held_out_accuracy:.1%} of {self.held_out} held-out images {what}"
        return f"{self.name}: {of} (by chance {self.chance:.1%})"


class OwnNetwork(nn.Module):
    """(N, C, H, H) float in [-1, 1] -> (features (N, 64), outputs (N, outputs)).

    Convolutions halve the image until it is 3 or 4 pixels a side, the first by four where it is
    large. As in the shipped classifiers SiLU keeps the features smooth in the pixels, and without
    batch norm an image's features depend on that image alone."""

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


def outputs(about: About) -> int:
    """How many outputs the network has: one a class, or the code of a view."""
    return about.classes or CODE


class OwnFeatures(nn.Module):
    """Images uint8 (N, C, H, H) of the data set's size -> (features (N, 64), logits (N,
    classes))."""

    def __init__(self, network: OwnNetwork, about: About) -> None:
        super().__init__()
        self.network, self.about = network, about
        self.requires_grad_(False)
        self.eval()

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        features, outputs = self.network(from_uint8(images))
        return features, outputs[:, : self.about.classes]

    def save(self, path: str | Path) -> None:
        """Write a safetensors file with what is known of the network. Equal networks give equal
        bytes."""
        state = {key: value.cpu().contiguous() for key, value in self.network.state_dict().items()}
        # one entry, as safetensors writes several in a random order
        write_bytes(Path(path), save(state, {"about": json.dumps(asdict(self.about))}))


def read_about(path: str | Path | None, name: str | None = None) -> About:
    """What the file of an own network says of it. Raises ValueError for no file, for any other
    file, and for that of a network that is not called `name`."""
    if path is None:
        raise ValueError(
            f"features {name!r} are of a network trained on one data set: give its file as `weights`"
        )
    try:
        with safe_open(str(path), framework="pt") as file:
            about = About(**json.loads((file.metadata() or {})["about"]))
    except (OSError, KeyError, TypeError, ValueError, SafetensorError) as error:
        raise ValueError(
            f"{str(path)!r} is not an own network's file ({error}); train it again"
        ) from error
    if name is not None and about.name != name:
        raise ValueError(
            f"{str(path)!r} is the network {about.name}, not {name}: their numbers do not compare"
        )
    return about


def check_data(data: ImageData, name: str, path: str | Path | None) -> None:
    """Raise ValueError unless the own network `name` in the file at `path` is that of `data`."""
    about = read_about(path, name)
    if about.data_fingerprint != data.fingerprint:
        raise ValueError(
            f"the own features {name} know the data set of fingerprint {about.data_fingerprint[:8]} only, that of "
            f"{data.name} is {data.fingerprint[:8]}; train a network on it"
        )


def load_own(path: str | Path, name: str | None = None) -> OwnFeatures:
    """The network that `OwnFeatures.save` wrote; raises what `read_about` raises."""
    about = read_about(path, name)
    network = OwnNetwork(about.channels, about.size, outputs(about))
    network.load_state_dict(load_file(path))
    return OwnFeatures(network, about)
