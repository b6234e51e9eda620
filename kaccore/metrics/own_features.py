"""A data set's own features: a small network trained once on the data set itself, if no other
features suit it or are available. Its numbers compare only within that data set. `own_training`
trains it.

    labelled images    it classifies them, as the shipped classifiers do
    unlabelled images  it distinguishes them: in a batch with two random views of each image (another crop, another
                       brightness and contrast, noise) it finds the two views of the same image (InfoNCE, as in
                       SimCLR, arXiv 2002.05709)

Why views: predicting a rotation teaches nothing if images are symmetrical or have no upright
position (digits 0, 1 and 8, textures, cells, galaxies), and an autoencoder's code is more about
pixels than about content. Views only require that the images differ. The loss makes the features
invariant to what the views change. So the changes are mild, and the features are taken before the
layer of the loss, where much of that information is still present.

A fifth of the images, the same share of each class, is held out; the score on it is given with that
of guessing."""

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
CODE = 32  # numbers in the code of a view
CLASSES, VIEWS = "classes", "views"  # what a network was trained to distinguish


@dataclass(frozen=True)
class OwnNetworkFacts:
    """The facts about an own network, saved in its file.

    name               its name in results
    data_fingerprint   that of the data set on which it was trained
    task               `classes` or `views`
    classes            number of classes; 0: trained by views
    held_out_accuracy  share of held-out images that are classified correctly, or recognised among others
    chance             that share for guessing
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
        """Inputs and outputs of its extractor."""
        return FeatureSpec(self.name, self.channels, self.size, WIDTH, self.classes)

    def __str__(self) -> str:
        what = "classified correctly"
        if self.task == VIEWS:
            what = f"recognised among {round(1 / self.chance)}"
        accuracy = f"{self.held_out_accuracy:.1%} of {self.held_out} held-out images {what}"
        return f"{self.name}: {accuracy} (by chance {self.chance:.1%})"


class OwnNetwork(nn.Module):
    """(N, C, H, H) float in [-1, 1] -> (features (N, 64), outputs (N, outputs)).

    Convolutions halve the image until it has 3 or 4 pixels a side; for a large image the first one
    divides its size by four. As in the shipped classifiers SiLU makes the features smooth functions
    of the pixels, and without batch norm an image's features depend on that image alone."""

    def __init__(self, channels: int, size: int, outputs: int) -> None:
        super().__init__()
        kernel, stride = 5, 4
        if size < 128:
            kernel, stride = 3, 2
        if size <= 32:
            kernel, stride = 3, 1
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


def output_count(facts: OwnNetworkFacts) -> int:
    """The number of outputs of the network: one for each class, or the code of a view."""
    return facts.classes or CODE


class OwnFeatures(nn.Module):
    """Images uint8 (N, C, H, H) of the data set's size -> (features (N, 64), logits (N,
    classes))."""

    def __init__(self, network: OwnNetwork, facts: OwnNetworkFacts) -> None:
        super().__init__()
        self.network, self.facts = network, facts
        self.requires_grad_(False)
        self.eval()

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        features, outputs = self.network(from_uint8(images))
        return features, outputs[:, : self.facts.classes]

    def save(self, path: str | Path) -> None:
        """Write a safetensors file with the facts about the network. Equal networks give equal
        bytes."""
        state = {key: value.cpu().contiguous() for key, value in self.network.state_dict().items()}
        # one metadata entry, as safetensors writes several in a random order
        write_bytes(Path(path), save(state, {"about": json.dumps(asdict(self.facts))}))


def read_facts(path: str | Path | None, name: str | None = None) -> OwnNetworkFacts:
    """The facts in the file of an own network. Raises ValueError without a file, for another kind of
    file, and for a network with another name than `name`."""
    if path is None:
        raise ValueError(
            f"features {name!r} need the network that was trained on the data set: give its file as `weights`"
        )
    try:
        with safe_open(str(path), framework="pt") as file:
            facts = OwnNetworkFacts(**json.loads((file.metadata() or {})["about"]))
    except (OSError, KeyError, TypeError, ValueError, SafetensorError) as error:
        raise ValueError(
            f"{str(path)!r} is not an own network's file ({error}); train it again"
        ) from error
    if name is not None and facts.name != name:
        raise ValueError(
            f"{str(path)!r} is the network {facts.name}, not {name}: their numbers do not compare"
        )
    return facts


def check_data(data: ImageData, name: str, path: str | Path | None) -> None:
    """Raise ValueError unless the own network `name` in the file at `path` is that of `data`."""
    facts = read_facts(path, name)
    if facts.data_fingerprint != data.fingerprint:
        raise ValueError(
            f"the own features {name} are for the data set with the fingerprint {facts.data_fingerprint[:8]} only, "
            f"that of {data.name} is {data.fingerprint[:8]}; train a network on it"
        )


def load_own(path: str | Path, name: str | None = None) -> OwnFeatures:
    """The network that `OwnFeatures.save` wrote; raises what `read_facts` raises."""
    facts = read_facts(path, name)
    network = OwnNetwork(facts.channels, facts.size, output_count(facts))
    network.load_state_dict(load_file(path))
    return OwnFeatures(network, facts)
