"""Handwritten digits that come with scikit-learn."""

from collections.abc import Callable
from typing import TYPE_CHECKING, ClassVar, Literal

from orchestrator.methods.dataset_facts import DataFacts
from orchestrator.methods.dataset_kind import DatasetKind, ImagesKind

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@DatasetKind.family.register
class Digits(ImagesKind):
    """Digits: 1,797 handwritten digits of 8x8, gray, ten classes; no files are needed."""

    known: ClassVar[DataFacts] = DataFacts(1, 8, 10, 1797, packaged=True)

    name: Literal["digits"] = "digits"

    def arrays(self) -> "Callable[[], tuple[NDArray[np.uint8], NDArray[np.int64]]] | None":
        from kaccore import arrays

        return arrays.digits
