"""The user's own images."""

import os
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from orchestrator.fields.addresses import expanded
from orchestrator.fields.faults import describe
from orchestrator.fields.field_types import Colour, Count, FilePath, Text
from orchestrator.fields.rule import kind_rule
from orchestrator.methods.dataset_facts import DataFacts
from orchestrator.methods.dataset_kind import DatasetKind, OnDiskKind

if TYPE_CHECKING:
    from orchestrator.settings.experiment import Experiment


@DatasetKind.family.register
class Folder(OnDiskKind):
    """Folder: your own images, in folders by class if there are classes (docs/data.md)."""

    known: ClassVar[DataFacts] = DataFacts(3, None, None, None)

    name: Literal["folder"] = "folder"
    root: FilePath | None = Field(
        default=None,
        description="Folder of the images, or an archive, an array file or a table (docs/data.md).",
    )
    size: Count | None = Field(
        default=None,
        description="Side in pixels to which images are cropped and resized, >= 1.",
    )
    background: Colour = Field(
        default="white",
        description="Background colour of transparent images: a name or hex.",
    )
    split: Text | None = Field(
        default=None,
        description="Subfolder of root, or part of an array file or table, to read, such as train; null: all of root.",
    )
    skip_damaged: bool = Field(
        default=False,
        description="Whether images that cannot be decoded are skipped and counted: true, or false, which ends with an "
        "error.",
    )

    @property
    def facts(self) -> DataFacts:
        return replace(self.known, size=self.size)

    def images_folder(self) -> str | None:
        return None if self.root is None else os.path.join(expanded(self.root), self.split or "")

    @kind_rule("data.size", "data.name")
    def _has_a_size(self, experiment: "Experiment") -> str | None:
        if self.size is not None:
            return None
        return "got null, expected the side in pixels to which the images of folder are cropped and resized"

    @kind_rule("data.split", "data.name")
    def _split_is_a_name(self, experiment: "Experiment") -> str | None:
        split = self.split
        if split is None or not ({"/", "\\"} & {*split} or split in (".", "..")):
            return None
        return f"got {describe(split)}, expected the name of a folder in data.root, such as train"
