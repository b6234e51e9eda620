"""A description of a data set without its images, sufficient to plan, to sample and to write reports
without its files.

`read` reads the files, or the data that a package ships. `foresee` is for a dry run: it writes and
downloads nothing, and if files are missing it uses the facts that are known from the name."""

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

WARNING = "warning: "  # prefix of notes that a user should not miss

Labels = NDArray[np.int64]


@dataclass(frozen=True)
class DatasetInfo:
    """A data set without its images. `labels` (N,) int64; None if there are none, or if they were
    not read. `count` and `size` are None if they depend on missing files. `notes`: messages about
    the processing of the images, or that they are missing."""

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
        """The number of classes; 0: unlabelled."""
        return len(self.class_names)

    @property
    def known(self) -> bool:
        """Whether the images were read, so that the fingerprint is that of their content."""
        return not self.fingerprint.startswith(UNKNOWN)

    def plain(self) -> dict[str, Any]:
        """All fields except the labels, for JSON; `of_plain` is the inverse."""
        return {f.name: getattr(self, f.name) for f in fields(self) if f.name != "labels"}

    def sizes(self) -> dict[str, Any]:
        """The amount and the shape of the data, as a manifest has them."""
        return {k: getattr(self, k) for k in ("count", "channels", "size", "classes")}


def of_plain(noted: Mapping[str, Any], labels: Labels | None = None) -> DatasetInfo:
    """The inverse of `DatasetInfo.plain`."""
    texts = {key: tuple(noted[key]) for key in ("class_names", "notes")}
    return DatasetInfo(**{**noted, **texts}, labels=labels)


def pack_labels(labels: Labels) -> str:
    """Labels as a short text; `unpack_labels` is the inverse."""
    small = labels.astype(np.min_scalar_type(int(labels.max(initial=0))))
    compressed = zlib.compress(small.tobytes(), 9)
    data = base64.b64encode(compressed).decode()
    return json.dumps({"type": small.dtype.str, "data": data})


def unpack_labels(text: str) -> Labels:
    """The inverse of `pack_labels`; raises ValueError or KeyError for any other text."""
    packed = json.loads(text)
    content = zlib.decompress(base64.b64decode(packed["data"]))
    return np.frombuffer(content, packed["type"]).astype(np.int64)


def by_name(settings: DatasetKind, fingerprint: str, notes: tuple[str, ...] = ()) -> DatasetInfo:
    """The description of a data set from its settings alone, with a given `fingerprint`."""
    facts = settings.facts
    names = tuple(map(str, range(facts.classes or 0)))
    count = settings.most_images
    return DatasetInfo(
        settings.name, fingerprint, count, facts.channels, facts.size, names, facts.points, notes
    )


def read(settings: DatasetKind) -> DatasetInfo:
    """The data set on this machine, prepared here if necessary; raises ValueError or OSError, like
    `images`.

    Data that a package ships are read without torch: a driver then needs half the memory and starts
    two seconds earlier."""
    read_arrays = settings.arrays()
    if read_arrays is not None:
        pixels, labels = read_arrays()
        names = tuple(map(str, range(settings.facts.classes or 0)))
        count, channels, size, _ = pixels.shape
        fingerprint = arrays.fingerprint(pixels, labels)
        return DatasetInfo(settings.name, fingerprint, count, channels, size, names, labels=labels)

    return of_images(images(settings))


def of_images(data: "ImageData") -> DatasetInfo:
    """The description of `data`."""
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
    """The data set for a dry run; nothing is written or downloaded. If the files are missing or not
    decoded yet, the fingerprint is a placeholder, and a note reports it. Raises ValueError for files
    that cannot be used."""
    if settings.facts.packaged:
        return read(settings)
    try:
        look = settings.look()
    except FileNotFoundError as e:
        return by_name(settings, _stand_in(settings), (f"{WARNING}the data are missing: {e}",))
    notes = list(look.notes)
    if not look.fingerprint:
        notes.append("the images are not decoded yet: keys are unknown until a run starts")
    return DatasetInfo(
        look.name,
        look.fingerprint or _stand_in(settings),
        look.count,
        look.channels,
        look.size,
        look.class_names,
        notes=tuple(notes),
    )


def _stand_in(settings: DatasetKind) -> str:
    """A placeholder for an unknown fingerprint; different settings have different placeholders."""
    content = json.dumps(settings.content_settings(), sort_keys=True)
    return f"{UNKNOWN}-{hashlib.sha256(content.encode()).hexdigest()[:12]}"


def as_images(info: DatasetInfo) -> "ImageData":
    """`info` as a data set for sampling: it has the right shape, labels and classes, but all images
    are black and need no memory. Never train on it or compare with it."""
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
    """The data set of a trial's `settings`; raises ValueError or OSError if it cannot be read."""
    return settings.images()


def checked(data: "ImageData", stage: Stage) -> "ImageData":
    """`data`; raises ValueError if `stage` was planned with other images."""
    if data.fingerprint != stage.data.fingerprint:
        here = data.fingerprint[:12]
        raise ValueError(
            f"data {data.name!r} on this node (fingerprint {here}) differs from the driver's"
        )
    return data


def sizes(data: "ImageData") -> dict[str, int]:
    """The amount and the shape of the data, as a manifest has them."""
    return {
        "count": len(data),
        "channels": data.channels,
        "size": data.size,
        "classes": data.classes,
    }
