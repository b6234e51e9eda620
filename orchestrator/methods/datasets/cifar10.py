"""CIFAR-10."""

from typing import ClassVar, Literal

from orchestrator.methods.dataset_facts import DataFacts
from orchestrator.methods.dataset_kind import DatasetKind, DownloadedKind


@DatasetKind.family.register
class Cifar10(DownloadedKind):
    """CIFAR-10: 50,000 images of 32x32, ten classes."""

    known: ClassVar[DataFacts] = DataFacts(3, 32, 10, 50_000, fetched=True)

    name: Literal["cifar10"] = "cifar10"
