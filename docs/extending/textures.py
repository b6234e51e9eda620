"""Squares of the two photographs that come with scikit-learn.

In an experiment: `plugins: [textures.py]` and `data: {name: textures}`."""

from typing import ClassVar, Literal

import torch
from pydantic import Field
from sklearn.datasets import load_sample_images

from kaccore.data import ImageData
from orchestrator.fields.field_types import Count
from orchestrator.methods.dataset_facts import DataFacts
from orchestrator.methods.dataset_kind import DatasetKind, ImagesKind

PHOTOGRAPHS = ("temple", "flower")


@DatasetKind.family.register
class Textures(ImagesKind):
    """Textures: colour squares of 16x16 from two photographs; the photographs are the classes."""

    # channels, size, classes and count are known before anything is read
    known: ClassVar[DataFacts] = DataFacts(3, 16, 2, 2080, packaged=True)

    name: Literal["textures"] = "textures"
    stride: Count = Field(default=16, description="Pixels from one square to the next, >= 1.")

    @property
    def most_images(self) -> int | None:
        return self.known.count if self.stride == 16 else None

    def load(self) -> ImageData:
        pieces = []
        for photograph in load_sample_images().images:
            pixels = torch.from_numpy(photograph.copy()).permute(2, 0, 1)  # (3, 427, 640)
            squares = pixels.unfold(1, 16, self.stride).unfold(2, 16, self.stride)
            pieces.append(squares.flatten(1, 2).transpose(0, 1))
        labels = torch.arange(len(pieces)).repeat_interleave(len(pieces[0]))
        return ImageData("textures", torch.cat(pieces).contiguous(), labels, PHOTOGRAPHS)
