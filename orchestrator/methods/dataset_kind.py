"""The interface of every kind of data set."""

import os
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from orchestrator.fields.addresses import expanded
from orchestrator.fields.field_types import FilePath
from orchestrator.fields.kind import Kind, family
from orchestrator.fields.rule import kind_rule
from orchestrator.methods.dataset_facts import DataFacts

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from kaccore.data import ImageData, Look
    from orchestrator.settings.experiment import Experiment

UNLOADED = ("name", "flip")  # settings that loading does not use


@family("data", key="name")
class DatasetKind(Kind):
    """A data set."""

    has_density: ClassVar[bool] = False  # whether points are of a density that kaccore knows
    known: ClassVar[DataFacts]  # what is known before it is read

    name: str

    @property
    def facts(self) -> DataFacts:
        """What is known before it is read; for a folder the size comes from the settings."""
        return self.known

    @property
    def flipped(self) -> bool:
        """Whether images are mirrored left to right at random in training."""
        return bool(getattr(self, "flip", False))

    @property
    def most_images(self) -> int | None:
        """The number of images according to its settings; None: it depends on the files."""
        return self.facts.count

    @classmethod
    def missing(cls) -> list[str]:
        needed = {
            "known": hasattr(cls, "known") or cls.facts is not DatasetKind.facts,
            "load": cls.plugin() is None or cls.load is not DatasetKind.load,
        }
        return [*super().missing(), *(name for name, defined in needed.items() if not defined)]

    def load(self) -> "ImageData":
        """The data set; a plugin must define it. Raises ValueError or OSError if it cannot be read."""
        from kaccore.data import load

        return load(**self.arguments())

    def images(self) -> "ImageData":
        """The data set, as `load` gives it. Raises ValueError if a plugin's data are not as its `known`
        says, from which the plan was made."""
        data = self.load()
        known = self.facts
        actual = {
            "channels": data.channels,
            "size": data.size,
            "classes": data.classes,
            "points": data.images.is_floating_point(),
        }
        for fact, value in actual.items():
            expected = getattr(known, fact)
            if expected is not None and value != expected and self.plugin() is not None:
                raise ValueError(
                    f"known of {type(self).__name__} says {fact} {expected}, load() gave {value}: "
                    f"correct the plugin {self.plugin()}"
                )
        return data

    def look(self) -> "Look":
        """A summary of the data set, from listing its files; nothing is written or downloaded.
        Raises the errors of `load`, and FileNotFoundError if a download is needed."""
        from kaccore.data import look
        from kaccore.data.looking import of_decoded

        return look(**self.arguments()) if self.plugin() is None else of_decoded(self.images())

    def arrays(self) -> "Callable[[], tuple[NDArray[np.uint8], NDArray[np.int64]]] | None":
        """A function that reads its images and labels without torch, for a driver; None: there is
        none."""
        return None

    def arguments(self) -> dict[str, Any]:
        """The arguments of `kaccore.data.load`."""
        return self.model_dump(exclude={"flip"})

    def content_settings(self) -> dict[str, Any]:
        """The settings that can change its images."""
        return self.model_dump(mode="json", exclude={"cache", "download", "flip"})

    @property
    def root_folder(self) -> str:
        """The folder of its files, as the user wrote it; empty: it has none."""
        return getattr(self, "root", None) or ""

    def images_folder(self) -> str | None:
        """The folder whose images are exactly its images; None: there is none."""
        return None


class ImagesKind(DatasetKind):
    """A data set of images."""

    flip: bool = Field(
        default=False,
        description="Whether images are mirrored left to right at random in training: true or false.",
    )


class PackagedKind(ImagesKind):
    """A data set of gray digits that a package ships."""

    read: ClassVar[str]  # the function of kaccore.arrays that reads it

    binary: bool = Field(
        default=False,
        description="Whether pixels are black (below 128 of 255) or white instead of gray: data with sharp modes.",
    )

    def arrays(self) -> "Callable[[], tuple[NDArray[np.uint8], NDArray[np.int64]]] | None":
        from kaccore import arrays

        read = getattr(arrays, self.read)
        return partial(arrays.binary, read) if self.binary else read


class OnDiskKind(ImagesKind):
    """A data set whose files the user provides."""

    root: FilePath | None = Field(default=None, description="Folder of the data.")
    cache: FilePath | None = Field(
        default=None,
        description="Folder of the cache of decoded images, 0.2 to 600 GB; null: .kaccore in root.",
    )

    def absolute(self) -> "OnDiskKind":
        folders = {"root": self.root, "cache": self.cache}
        absolute = {
            key: os.path.abspath(expanded(folder)) for key, folder in folders.items() if folder
        }
        return self.model_copy(update=absolute)

    @kind_rule("data.root", "data.name")
    def _has_a_root(self, experiment: "Experiment") -> str | None:
        if self.root is not None:
            return None
        return f"got null, expected the folder with the data of {self.name}"


class DownloadedKind(OnDiskKind):
    """A data set that can be downloaded."""

    download: bool = Field(
        default=False,
        description="Whether to download files that are missing in root: true or false.",
    )
