"""CelebA at 64x64."""

from typing import ClassVar, Literal

from orchestrator.methods.dataset_facts import DataFacts
from orchestrator.methods.dataset_kind import DatasetKind, DownloadedKind


@DatasetKind.family.register
class Celeba64(DownloadedKind):
    """CelebA: 162,770 faces of 64x64, unlabelled."""

    known: ClassVar[DataFacts] = DataFacts(3, 64, 0, 162_770, fetched=True)

    name: Literal["celeba64"] = "celeba64"
