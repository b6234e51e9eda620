"""What is known of a data set beside its images: enough to plan, to sample and to write reports
without its files.

`read` reads the files, or what a package ships. `foresee` is for a dry run: it writes and fetches
nothing, and where the files are not here it goes by what is known of the data set by its name."""

import base64
import hashlib
import json
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from kaccore import arrays
from orchestrator.methods.dataset_kind import DatasetKind
from orchestrator.plan.stage import UNKNOWN, Stage

if TYPE_CHECKING:  # a driver plans without torch
    from kaccore.data import ImageData

WARNING = "warning: "  # how notes begin that a user should not miss

Labels = NDArray[np.int64]


@dataclass(frozen=True)
class DatasetInfo:
    """A data set without its images. `labels` (N,) int64; None where there are none, or they were
    not asked for. `count` and `size` are None where only the missing files tell; `notes` say in
    words what was done to the images, or that they are missing."""

    name: str
    fingerprint: str
    count: int | None
    channels: int
    size: int | None
    class_names: tuple[str, ...] = ()
    points: bool = False
    notes: tuple[str, ...] = ()
    labels: Labels | None = field(default=None, compare=False, repr=False)

    @property
    def classes(self) -> int:
        """How many classes there are; 0: unlabelled."""
        return len(self.class_names)

    @property
    def known(self) -> bool:
        """Whether the images were read, so that the fingerprint is theirs."""
        return not self.fingerprint.startswith(UNKNOWN)

    def plain(self) -> dict[str, Any]:
        """All but the labels as JSON takes it; `of_plain` is the way back."""
        return {f.name: getattr(self, f.name) for f in fields(self) if f.name != "labels"}

    def sizes(self) -> dict[str, Any]:
        """How much data there is and how it is shaped, as a manifest keeps it."""
        return {k: getattr(self, k) for k in ("count", "channels", "size", "classes")}


def of_plain(noted: Mapping[str, Any], labels: Labels | None = None) -> DatasetInfo:
    """What `DatasetInfo.plain` was made of."""
    texts = {key: tuple(noted[key]) for key in ("class_names", "notes")}
    return DatasetInfo(**{**noted, **texts}, labels=labels)


def pack_labels(labels: Labels) -> str:
    """Labels as a short text; `unpack_labels` is the way back."""
    small = labels.astype(np.min_scalar_type(int(labels.max(initial=0))))
    return json.dumps(
        {
            "type": small.dtype.str,
            "data": base64.b64encode(zlib.compress(small.tobytes(), 9)).decode(),
        }
    )


def unpack_labels(text: str) -> Labels:
    """The labels in what `pack_labels` made; raises ValueError or KeyError for anything else."""
    noted = json.loads(text)
    return np.frombuffer(zlib.decompress(base64.b64decode(noted["data"])), noted["type"]).astype(
        np.int64
    )


def by_name(settings: DatasetKind, fingerprint: str, notes: tuple[str, ...] = ()) -> DatasetInfo:
    """What the data set's name alone says of it, with a `fingerprint` from elsewhere."""
    facts = settings.facts
    names = tuple(map(str, range(facts.classes or 0)))
    count = settings.most_images
    return DatasetInfo(
        settings.name, fingerprint, count, facts.channels, facts.size, names, facts.points, notes
    )


def read(settings: DatasetKind) -> DatasetInfo:
    """Of the data as this machine has it, made ready here if need be; raises ValueError or OSError,
    as `images`.

    What a package ships is read without torch: a driver then takes half the memory, and begins two
    seconds earlier."""
    read_arrays = settings.arrays()
    if read_arrays is not None:
        pixels, labels = read_arrays()
        names = tuple(map(str, range(settings.facts.classes or 0)))
        count, channels, size, _ = pixels.shape
        fingerprint = arrays.fingerprint(pixels, labels)
        return DatasetInfo(settings.name, fingerprint, count, channels, size, names, labels=labels)

    return of_images(images(settings))


def of_images(data: "ImageData") -> DatasetInfo:
    """What is to be kept of `data`."""
    return DatasetInfo(
        data.name,
        data.fingerprint,
        len(data),
        data.channels,
        data.size,
        data.class_names,
        data.images.is_floating_point(),
        tuple(getattr(data, "notes", ())),
        None if data.labels is None else data.labels.numpy(),
    )


def foresee(settings: DatasetKind) -> DatasetInfo:
    """The same for a dry run. Where the files are missing, or were never decoded, the fingerprint
    is a stand-in, and a note says so; nothing is written or fetched. Raises ValueError for files
    that cannot be used."""
    if settings.facts.packaged:
        return read(settings)
    try:
        found = settings.look()
    except FileNotFoundError as e:
        return by_name(settings, _stand_in(settings), (f"{WARNING}the data are missing: {e}",))
    undecoded = (
        ()
        if found.fingerprint
        else ("the images are not decoded yet: keys are unknown until a run has begun",)
    )
    return DatasetInfo(
        found.name,
        found.fingerprint or _stand_in(settings),
        found.count,
        found.channels,
        found.size,
        found.class_names,
        notes=(*found.notes, *undecoded),
    )


def _stand_in(settings: DatasetKind) -> str:
    """A text in the place of a fingerprint that nobody knows: other settings, other texts."""
    content = json.dumps(settings.content_settings(), sort_keys=True)
    return f"{UNKNOWN}-{hashlib.sha256(content.encode()).hexdigest()[:12]}"


def as_images(info: DatasetInfo) -> "ImageData":
    """`info` as the data set that sampling takes: of the right shape, with its labels and classes,
    and with images that are all black and take no memory. Never train on it or compare with it."""
    import torch

    from kaccore.data import ImageData, PointData

    assert info.size is not None, "a folder has a size"
    count = len(info.labels) if info.labels is not None else info.count or 1
    kind, dtype = (PointData, torch.float32) if info.points else (ImageData, torch.uint8)
    blank = torch.zeros(1, info.channels, info.size, info.size, dtype=dtype).expand(
        count, -1, -1, -1
    )
    labels = None
    if info.classes:
        known = np.arange(count) % info.classes if info.labels is None else info.labels
        labels = torch.from_numpy(np.asarray(known, np.int64))
    data = kind(info.name, blank, labels, info.class_names)
    vars(data)["fingerprint"] = info.fingerprint  # where `cached_property` looks
    return data


def images(settings: DatasetKind) -> "ImageData":
    """The data set that a trial's `settings` mean; raises ValueError or OSError where it cannot be
    read."""
    return settings.load()


def checked(data: "ImageData", stage: Stage) -> "ImageData":
    """`data`; raises ValueError where `stage` was planned with other images."""
    if data.fingerprint != stage.data.fingerprint:
        found = data.fingerprint[:12]
        raise ValueError(
            f"data {data.name!r} on this node (fingerprint {found}) differs from the driver's"
        )
    return data


def sizes(data: "ImageData") -> dict[str, int]:
    """How much data there is and how it is shaped, as a manifest keeps it."""
    return {
        "count": len(data),
        "channels": data.channels,
        "size": data.size,
        "classes": data.classes,
    }
