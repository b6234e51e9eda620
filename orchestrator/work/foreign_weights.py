"""Weights of teachers that were trained elsewhere (`teacher.weights`): checked before anything starts
and put into the store, where each worker finds them."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from safetensors.torch import save
from torch import Tensor

from kaccore.checkpoint import read_tensors
from kaccore.files import file_sha256
from kaccore.foreign import read_weights, renamed
from orchestrator.fields.faults import ConfigError, Fault, describe
from orchestrator.plan.data import as_images
from orchestrator.plan.plan import Trial
from orchestrator.plan.stage import Stage
from orchestrator.store import layout
from orchestrator.store.place import Place
from orchestrator.store.store import Store
from orchestrator.work import building

KEY = "teacher.weights"
LISTED = 3  # names in a message


def in_store(store: Store, stage: Stage) -> Place:
    """Where the weights of the teacher `stage` are until it is finished."""
    return store.root / layout.WEIGHTS / f"{stage.key}.safetensors"


def load(store: Store, stage: Stage) -> dict[str, Tensor]:
    """The weights of the teacher `stage`, from the store."""
    place = in_store(store, stage)
    with place.parent.fetched(place.name) as folder:
        return read_tensors(folder / place.name)


@dataclass(frozen=True)
class Given:
    """The weights of the teacher `stage` from the file `name`, under the names of its network;
    `left_out`: the names of other tensors in the file."""

    stage: Stage
    name: str
    tensors: dict[str, Tensor]
    left_out: list[str]

    def note(self) -> str:
        """What of the file is used, as a message."""
        others = f", {len(self.left_out)} others left out" if self.left_out else ""
        return f"teacher.weights: {len(self.tensors)} tensors of {self.name}{others}"

    def put(self, store: Store) -> None:
        """Put the weights into `store`, where each worker finds them."""
        store.open()
        place = in_store(store, self.stage)
        place.parent.mkdir(parents=True, exist_ok=True)
        place.put(save({name: t.clone().contiguous() for name, t in self.tensors.items()}))


def read(trials: Iterable[Trial], store: Store, source: str) -> list[Given]:
    """The weights that `trials` need and that `store` does not have yet, each checked: they are those
    that the experiment means, and fit the network. Raises ConfigError with all faults."""
    found: dict[str, Given] = {}
    faults: list[Fault] = []
    for trial in trials:
        stage = trial.chain[0]
        if stage.teacher_spec.weights is None or stage.key in found:
            continue
        if store.done(stage.key) or in_store(store, stage).exists():
            continue
        try:
            found[stage.key] = _read(trial, stage)
        except ConfigError as error:
            faults += [replace(fault, source=source) for fault in error.faults]
    if faults:
        raise ConfigError(list(dict.fromkeys(faults)))
    return list(found.values())


def _read(trial: Trial, stage: Stage) -> Given:
    spec, name = stage.teacher_spec, trial.config.teacher.weights
    assert name is not None, "a spec with weights is of an experiment with weights"
    try:
        found = file_sha256(Path(name))
        if found != str(spec.weights).lower():
            message = f"got {spec.weights}, but that of {name} is {found}"
            raise ConfigError([Fault("", f"{KEY}_sha256", message)])
        tensors, left_out = renamed(read_weights(Path(name)), spec.weights_names)
    except OSError as error:
        message = f"got {name}, which cannot be read ({error.strerror or error})"
        raise ConfigError([Fault("", KEY, message)]) from None
    except ConfigError:
        raise
    except ValueError as error:
        raise ConfigError([Fault("", KEY, f"got {name}: {error}")]) from None
    given = Given(stage, name, tensors, left_out)
    problem = _misfit(trial, given)
    if problem:
        others = f"; {len(left_out)} other tensors are left out" if left_out else ""
        message = f"{name} does not fit the network: it {problem}{others}"
        raise ConfigError([Fault("", f"{KEY}_names", message)])
    return given


def _misfit(trial: Trial, given: Given) -> str:
    """Why the network does not take the tensors; empty if it does, or if the data are missing, and with
    them its shape."""
    if trial.facts.data.size is None:
        return ""
    tensors = given.tensors
    with torch.device("meta"):
        expected = building.network(given.stage, as_images(trial.facts.data)).state_dict()
    missing = [name for name in expected if name not in tensors]
    unknown = [name for name in tensors if name not in expected]
    shapes = [
        f"{name} {tuple(tensors[name].shape)} for {tuple(tensor.shape)}"
        for name, tensor in expected.items()
        if name in tensors and tensors[name].shape != tensor.shape
    ]
    parts = [
        f"{what} {_listed(names)}"
        for what, names in (
            ("lacks", missing),
            ("has no place for", unknown),
            ("has another shape of", shapes),
        )
        if names
    ]
    return "; ".join(parts)


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - LISTED} more of {len(names)}" if len(names) > LISTED else ""
    return ", ".join(map(describe, names[:LISTED])) + more
