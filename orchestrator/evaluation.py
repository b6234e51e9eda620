"""Sampling and scoring, as functions for Ray tasks: warm processes keep the model, the data and the features."""

import time
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from kaccore.data import ImageData, load, to_uint8
from kaccore.fid import Reference, compare, extract
from kaccore.files import write_json
from kaccore.sampling import sample
from kaccore.tensors import derive_seed, generator_for
from orchestrator import build, pictures
from orchestrator.plan import Stage
from orchestrator.store import Store

GRID_IMAGES = 64  # images kept of every evaluation


class FeatureWeights(NamedTuple):
    """A weights file for the feature extractor, with its checksum; (None, None): the extractor's own."""

    path: str | None = None
    sha256: str | None = None


class Part(NamedTuple):
    """Some of an evaluation's images: their features, and the first few of them as uint8 (n, C, H, W)."""

    features: Tensor
    images: Tensor
    nfe: int
    energy: Tensor
    seconds: float


def sample_part(
    stage: Stage, storage: str, data_root: str | None, weights: FeatureWeights, replica: int, first: int, count: int
) -> Part:
    """Images number `first` ... `first + count - 1` of an evaluation's sampling seed number `replica`."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    trained, data = stage.parents[0], _data(stage.lineage()[0].config["data"]["name"], data_root)
    model = _network(storage, trained, data_root).to(device)
    setting = stage.config["sampling"]
    seed = derive_seed(stage.config["seed"], "evaluation", replica)
    labels = choose_labels(setting["labels"], data, seed, range(first, first + count))
    if trained.lineage()[0].config["label_dropout"] is None:
        labels = None
    began = time.perf_counter()
    samples = sample(
        model, build.path(trained.lineage()[0], data), (count, data.channels, data.size, data.size),
        solver=setting["solver"], steps=setting["steps"], seed=seed, labels=labels, guidance=setting["guidance"],
        first=first,
    )  # fmt: skip
    seconds = time.perf_counter() - began
    images = to_uint8(samples.images)
    features = extract(
        images, stage.parents[1].config["features"], device=device, weights=weights.path, weights_sha256=weights.sha256
    )
    return Part(features, images[: max(0, GRID_IMAGES - first)], samples.nfe, samples.kinetic_path_energy, seconds)


def score(stage: Stage, storage: str, seconds: float, *parts: Part) -> dict[str, Any]:
    """Compare the images of all `parts`, grouped by sampling seed, with the reference; publish and return it."""
    store, seeds = Store(storage), stage.config["seeds"]
    reference = Reference.load(store.result(stage.parents[1].key).path("reference.safetensors"))
    per_seed = len(parts) // seeds
    scores = []
    for j in range(seeds):
        features = torch.cat([p.features for p in parts[j * per_seed : (j + 1) * per_seed]])
        scores.append(compare(features, reference, stage.config["metrics"], seed=stage.config["seed"]))
    count = stage.config["samples"] * seeds
    metrics = {k: float(np.mean([s[k] for s in scores])) for k in scores[0]}
    spread = {f"{k}_std": float(np.std([s[k] for s in scores], ddof=1)) for k in scores[0]} if seeds > 1 else {}
    result = {
        **metrics,
        **spread,
        "fid_features": reference.features,
        "nfe": parts[0].nfe,
        "seconds_per_image": sum(p.seconds for p in parts) / count,
        "kinetic_path_energy": float(torch.cat([p.energy for p in parts]).mean()),
        "samples": stage.config["samples"],
    }
    gathered = store.gather(stage)
    images = torch.cat([p.images for p in parts[:per_seed]])
    write_json(gathered / "metrics.json", result)
    pictures.save_npz(gathered / "samples.npz", images)
    pictures.save_grid(gathered / "samples.png", images)
    store.publish(stage, gathered, seconds)
    return result


def build_reference(stage: Stage, storage: str, data_root: str | None, weights: FeatureWeights) -> None:
    """Features and their statistics of all real images, computed once a data set and kept."""
    began, store = time.perf_counter(), Store(storage)
    data = _data(stage.config["data"]["name"], data_root)
    reference = Reference.build(
        data.images, stage.config["features"], weights=weights.path, weights_sha256=weights.sha256
    )
    gathered = store.gather(stage)
    reference.save(gathered / "reference.safetensors")
    pictures.save_grid(gathered / "samples.png", data.images[:GRID_IMAGES])
    store.publish(stage, gathered, time.perf_counter() - began)


def choose_labels(wanted: int | list[int] | None, data: ImageData, seed: int, indices: range) -> Tensor | None:
    """The labels of images number `indices`: `wanted` in turn, or, for None, the data's own in a random order, so
    that as many images as the data has get each label exactly as often. None for data without labels."""
    if data.labels is None:
        return None
    at = torch.tensor(indices)
    if wanted is None:
        order = torch.randperm(len(data), generator=generator_for(seed, "labels"))
        return data.labels[order[at % len(data)]]
    choices = torch.tensor([wanted] if isinstance(wanted, int) else wanted)
    return choices[at % len(choices)]


def trained_network(store: Store, stage: Stage, data: ImageData) -> nn.Module:
    """The finished network of a teacher or student, in evaluation mode on the CPU."""
    model = build.network(stage.lineage()[0], data)
    model.load_state_dict(store.result(stage.key).tensors("model.safetensors"))
    return model.eval().requires_grad_(False)


@lru_cache(maxsize=4)
def _network(storage: str, stage: Stage, data_root: str | None) -> nn.Module:
    return trained_network(Store(storage), stage, _data(stage.lineage()[0].config["data"]["name"], data_root))


@lru_cache(maxsize=2)
def _data(name: str, root: str | None) -> ImageData:
    return load(name, Path(root) if root else None)

