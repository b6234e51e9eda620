"""LSUN's bedrooms at 256x256."""

from typing import ClassVar, Literal

from pydantic import Field

from orchestrator.fields.field_types import Count
from orchestrator.methods.dataset_facts import DataFacts
from orchestrator.methods.dataset_kind import DatasetKind, OnDiskKind


@DatasetKind.family.register
class LsunBedroom256(OnDiskKind):
    """LSUN bedrooms: 3,033,042 images of 256x256, unlabelled."""

    known: ClassVar[DataFacts] = DataFacts(3, 256, 0, None)  # 3,033,042, or limit

    name: Literal["lsun_bedroom256"] = "lsun_bedroom256"
    limit: Count | None = Field(
        default=None,
        description="Number of images to use, the first ones, >= 1; null: all, which need 596 GB.",
    )

    @property
    def most_images(self) -> int | None:
        return self.limit
