"""A trained network that draws images, and the images, which show themselves in a notebook."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orchestrator.fields.faults import ConfigError, Fault, describe
from orchestrator.fields.options import named_as_arguments
from orchestrator.host import machine
from orchestrator.networks import sampling_choice
from orchestrator.networks.exported import ExportedSampler, is_exported
from orchestrator.networks.locate import TrainedRun, locate
from orchestrator.networks.trained_sampler import TrainedSampler
from orchestrator.notebook.plain import plain
from orchestrator.settings.experiment import Experiment
from orchestrator.sweeps import opening
from orchestrator.sweeps.measured import count_text

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from kaccore.data import ImageData


class Images:
    """Images that a network drew. `numpy.asarray` gives uint8 (N, H, W, C), or for points float32
    (N, 2).

    `labels`: the class of each, None without classes; `nfe`: network evaluations an image."""

    def __init__(
        self, drawn: "Tensor", labels: "Tensor | None", data: "ImageData", nfe: int, text: str
    ) -> None:
        """`drawn`: with the shape and type of `data.images`; `text`: what drew them."""
        self._drawn = drawn
        self._labels = labels
        self._data = data
        self.nfe = nfe
        self.text = text

    @property
    def array(self) -> "np.ndarray[Any, Any]":
        """uint8 (N, H, W, C), or for points float32 (N, 2)."""
        if self._drawn.is_floating_point():
            return self._drawn.flatten(1).numpy()
        return self._drawn.permute(0, 2, 3, 1).contiguous().numpy()

    @property
    def labels(self) -> list[str] | None:
        """The name of the class of each image; None if the network has no classes."""
        from orchestrator.work import pictures

        return None if self._labels is None else pictures.names_of(self._labels, self._data)

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write them as one PNG, a grid, or as an .npz of arrays; returns the path."""
        from orchestrator.work import pictures

        file = Path(path)
        if not file.absolute().parent.is_dir():
            raise ConfigError([Fault(str(file), "", f"there is no folder {file.parent}")])
        ending = file.suffix.lower()
        if ending == ".npz":
            pictures.save_npz(file, self._drawn, self._labels)
        elif ending == ".png":
            pictures.save_samples(file, self._drawn, self._data, self.labels or (), mark=True)
        else:
            raise ConfigError([Fault(str(file), "", "expected a name that ends in .png or .npz")])
        return file

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> "np.ndarray[Any, Any]":
        array = self.array
        return array if dtype is None else array.astype(dtype)

    def __len__(self) -> int:
        return len(self._drawn)

    def __getitem__(self, index: Any) -> "np.ndarray[Any, Any]":
        return self.array[index]

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of `array`."""
        return tuple(self.array.shape)

    def __repr__(self) -> str:
        what = "points" if self._drawn.is_floating_point() else "images"
        return f"{len(self)} {what} {self.shape[1:]} of {self.text}"

    def _repr_png_(self) -> bytes:
        from orchestrator.work import pictures

        return pictures.samples_png(self._drawn, self._data, self.labels or ())


class Network:
    """A trained network with its settings of sampling: `network(labels=["3"], count=16)`."""

    def __init__(self, sampler: TrainedSampler | ExportedSampler) -> None:
        self._sampler = sampler

    @property
    def config(self) -> Experiment:
        """The settings with which it was trained and is sampled. Raises ValueError for an exported
        file, which does not have them."""
        if isinstance(self._sampler, ExportedSampler):
            what = "an exported file has no experiment: load the run that it was exported from"
            raise ConfigError([Fault(self._sampler.file, "", what)])
        return self._sampler.config

    @property
    def module(self) -> Any:
        """The PyTorch module: (x, t, labels) -> velocity. Raises ValueError for an ONNX or
        TorchScript file, which has none."""
        return self._sampler.network

    @property
    def classes(self) -> list[str]:
        """The names of the classes that `labels` takes; empty if it has none."""
        return list(self._sampler.data.class_names)

    @named_as_arguments()
    def sample(
        self,
        count: int = 16,
        *,
        seed: int = 0,
        labels: Sequence[str | int] | str | int | None = None,
    ) -> Images:
        """`count` images of `seed`, of which image k is always the same. `labels`: classes, by names
        or numbers, in turn; None: as often as in the data, of an exported file each equally often.
        Raises ValueError for a class that does not exist, and for a network without classes."""
        count, seed = plain(count), plain(seed)
        if not _whole(count) or count < 1:
            expected = "expected a whole number, at least 1"
            raise ConfigError([Fault("count", "", f"got {describe(count)}, {expected}")])
        if not _whole(seed) or not 0 <= seed < 2**63:
            expected = "expected a whole number from 0 to 2^63 - 1"
            raise ConfigError([Fault("seed", "", f"got {describe(seed)}, {expected}")])
        sampler = self._sampler
        if labels is not None:
            sampler = sampler.with_labels(self._numbers(labels))
        machine.limit_threads()
        samples, drawn_labels = sampler.draw(count, seed)
        drawn = sampler.data.from_floats(samples.images)
        return Images(drawn, drawn_labels, sampler.data, samples.nfe, sampler.text(samples.nfe))

    def __call__(
        self,
        labels: Sequence[str | int] | str | int | None = None,
        *,
        count: int = 16,
        seed: int = 0,
    ) -> Images:
        """`sample` with the labels first."""
        return self.sample(count, seed=seed, labels=labels)

    def _numbers(self, labels: Sequence[str | int] | str | int) -> list[int]:
        labels = plain(labels)
        words = [labels] if isinstance(labels, str | int) else list(labels)
        if not words:
            raise ConfigError([Fault("labels", "", "got an empty list, expected classes")])
        return [sampling_choice.class_number(self._sampler.info, str(word)) for word in words]

    def __repr__(self) -> str:
        if isinstance(self._sampler, ExportedSampler):
            return f"{self._sampler.text(self._sampler.about['nfe'])}\n{self._sampler.origin()}"
        own = self.config.sampling
        network = own.model if own.model == "student" else f"teacher by {own.solver}"
        return f"{self.config.name}: {network}, {count_text(own.steps)}\n{self._sampler.origin()}"


@named_as_arguments()
def load(
    source: str | os.PathLike[str],
    *,
    steps: int | None = None,
    model: str | None = None,
    solver: str | None = None,
    guidance: float | None = None,
    storage: str | os.PathLike[str] | None = None,
    tracking_uri: str | None = None,
) -> Network:
    """A trained network: `load("nfe-sweep", steps=1)(labels=["3"], count=16)`.

    `source`: a sweep by its name (or name/id, or name:TRIAL), a folder of a sweep or stage, an
    experiment's file, an MLflow run id, or a registered model, models:/NAME/VERSION or
    models:/NAME@ALIAS; names are looked up in `storage` (default: runs), MLflow's in `tracking_uri`.
    `steps`: selects the student with as many, or else the teacher; `model`: teacher or student;
    `solver` and `guidance`: the teacher's.

    Also a file that `kacflow export` wrote (ONNX, TorchScript or safetensors), which needs neither
    store nor data. Its steps, solver and guidance are those with which it was exported.

    Raises ValueError if there is no such network, it is not trained yet, or a file cannot do what is
    asked."""
    place = None if storage is None else opening.parse_place(os.fspath(storage), "storage")
    if not isinstance(source, str | os.PathLike):
        expected = "expected a name, a folder or a model; a run has best() and trial()"
        raise ConfigError([Fault("source", "", f"got a {type(source).__name__}, {expected}")])
    given = {"steps": steps, "model": model, "solver": solver, "guidance": guidance}
    file = os.path.expanduser(os.fspath(source))
    if is_exported(file):
        if place is not None or tracking_uri is not None:
            what = "an exported file needs no store: leave storage and tracking_uri out"
            raise ConfigError([Fault(file, "", what)])
        return Network(ExportedSampler(file, given))
    run = locate(os.fspath(source), place, tracking_uri)
    return load_run(run, given)


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def load_run(run: TrainedRun, given: dict[str, Any] | None = None) -> Network:
    """The network of a run that was found; `given`: settings of its sampling, None: those of the
    run."""
    return Network(TrainedSampler(run, sampling_choice.with_sampling(run, given or {})))
