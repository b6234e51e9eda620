"""Handwritten digits that come with scikit-learn."""

from typing import ClassVar, Literal

from orchestrator.methods.dataset_facts import DataFacts
from orchestrator.methods.dataset_kind import DatasetKind, PackagedKind


@DatasetKind.family.register
class Digits(PackagedKind):
    """Digits: 1,797 handwritten digits of 8x8, gray, ten classes; no files are needed."""

    known: ClassVar[DataFacts] = DataFacts(1, 8, 10, 1797, packaged=True)
    read: ClassVar[str] = "digits"

    name: Literal["digits"] = "digits"
