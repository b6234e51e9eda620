"""Sampling and scoring, as functions for Ray tasks. Processes that are reused cache the model and the
data."""

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import lru_cache, wraps
from pathlib import Path
from typing import Any, Concatenate, NamedTuple, ParamSpec, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from kaccore.data import ImageData, PointData
from kaccore.diagnostics.memorisation import Nearest
from kaccore.distill import UniformJumps
from kaccore.energy import TrajectorySummary
from kaccore.files import write_bytes, write_json
from kaccore.metrics.features import own_name
from kaccore.metrics.fid import METRICS, Outputs, Reference, compare, extract, extract_with_logits
from kaccore.metrics.frechet import bootstrap_fid, moments, per_class_fid, perfect_model_fid
from kaccore.metrics.own_training import train_own
from kaccore.tensors import derive_seed
from orchestrator.methods.dataset_kind import DatasetKind
from orchestrator.plan import data as dataset_info
from orchestrator.plan.specs import EvaluationSpec, FeaturesSpec
from orchestrator.plan.stage import Stage
from orchestrator.store import layout
from orchestrator.store.layout import ABOUT, OWN_FILE, REAL
from orchestrator.store.store import Store
from orchestrator.work import building, diagnostics, pictures, point_metrics
from orchestrator.work.drawing import device, draw, labels_for
from orchestrator.work.job import OFFICIAL_WEIGHTS, FeatureWeights
from orchestrator.work.training_log import reporting

P = ParamSpec("P")
T = TypeVar("T")
Task = Callable[Concatenate[Stage, str, P], T]  # of a stage and the storage

GRID_IMAGES = 64  # images stored of every evaluation
# splits of the real images, for the FID of a perfect model; wide features take seconds for each
REAL_SPLITS, REAL_SPLITS_WIDE, WIDE = 30, 3, 512
RESAMPLES = 200  # of an evaluation's images, for the interval of FID


class Part(NamedTuple):
    """A part of an evaluation's images: the outputs of the extractor, the second features if there
    are any, the labels, the statistics of sampling, and the nearest training images. Only the first
    few `images` of an evaluation are stored, with the shape and type of the data."""

    outputs: Outputs
    second: Tensor | None
    labels: Tensor | None
    images: Tensor
    nfe: int
    energy: Tensor
    trajectory: TrajectorySummary
    nearest: Nearest | None
    seconds: float


def _reported(task: Task[P, T]) -> Task[P, T]:
    """`task` with its warnings and its progress written to the store; see `reporting`."""

    @wraps(task)
    def run(stage: Stage, storage: str, *arguments: P.args, **more: P.kwargs) -> T:
        with reporting(Store(storage), stage):
            return task(stage, storage, *arguments, **more)

    return run


@_reported
def sample_part(
    stage: Stage,
    storage: str,
    where: DatasetKind,
    weights: FeatureWeights,
    replica: int,
    first: int,
    count: int,
) -> Part:
    """Images number `first` ... `first + count - 1` of an evaluation's sampling seed number
    `replica`."""
    trained, data = stage.parents[0], data_of(stage, where)
    spec = stage.evaluation_spec
    model = network(storage, trained, where, spec.sampling.ema).to(device())
    seed = derive_seed(spec.seed, "evaluation", replica)
    indices = range(first, first + count)
    labels = labels_for(trained, spec.sampling.labels, data, seed, indices)
    start = time.perf_counter()
    samples = draw(trained, spec.sampling, model, data, indices, seed, labels)
    seconds = time.perf_counter() - start
    images = data.from_floats(samples.images)
    store = Store(storage)
    reference, *others = stage.references
    features, extraction = measured_with(reference, store, weights)
    outputs = extract_with_logits(images, features, device=device(), **extraction)
    second = None
    for other in others:
        features, extraction = measured_with(other, store, OFFICIAL_WEIGHTS)
        second = extract(images, features, device=device(), **extraction)
    nearest = None
    if "memorisation" in spec.diagnostics:
        nearest = diagnostics.nearest(samples.images, data)
    assert samples.trajectory is not None, "a part has images"
    return Part(
        outputs,
        second,
        labels,
        images[: max(0, kept(data) - first)],
        samples.nfe,
        samples.kinetic_path_energy,
        samples.trajectory,
        nearest,
        seconds,
    )


def kept(data: ImageData) -> int:
    """The number of samples of an evaluation that are stored."""
    return pictures.SCATTERED if isinstance(data, PointData) else GRID_IMAGES


@_reported
def score(
    stage: Stage, storage: str, where: DatasetKind, seconds: float, *parts: Part
) -> dict[str, Any]:
    """Compare the images of all `parts`, grouped by sampling seed, with the reference; publish and
    return the metrics. `seconds`: the time that sampling took."""
    start = time.perf_counter()
    store = Store(storage)
    spec = stage.evaluation_spec
    seeds = spec.seeds
    reference, *others = [
        Reference.load(store.result(parent.key).path("reference.safetensors"))
        for parent in stage.references
    ]
    data = data_of(stage, where)
    per_seed = len(parts) // seeds
    groups = [parts[j * per_seed : (j + 1) * per_seed] for j in range(seeds)]
    scores = [
        {**_compare(group, reference, data, stage), **_compare_second(group, others, data, stage)}
        for group in groups
    ]
    energy = torch.cat([p.energy for p in parts])
    gathered = store.gather(stage)
    images = torch.cat([p.images for p in groups[0]])
    result = {
        **_over_seeds(scores),
        "fid_features": reference.features,
        **({"fid_second_features": others[0].features} if others else {}),
        "nfe": parts[0].nfe,
        **({"calibrated": 1} if _calibrated(stage) else {}),
        "seconds_per_image": sum(p.seconds for p in parts) / (spec.samples * seeds),
        **diagnostics.of_trajectories(
            energy,
            TrajectorySummary.join([p.trajectory for p in parts]),
            bounded=not isinstance(data, PointData),
        ),
        **_memorisation(parts, energy, images, data, gathered),
        **_gap(stage, storage, where, data, gathered),
        **_likelihood(stage, storage, where, data),
        "samples": spec.samples,
    }
    write_json(gathered / layout.METRICS, result)
    resampled = _bootstrap(groups, [reference, *others], spec)
    if resampled:
        write_json(gathered / layout.BOOTSTRAP, resampled)
    label_parts = [p.labels for p in groups[0] if p.labels is not None]
    labels = torch.cat(label_parts)[: len(images)] if label_parts else None
    pictures.save_npz(gathered / "samples.npz", images, labels)
    pictures.save_samples(gathered / layout.SAMPLES, images, data)
    store.publish(stage, gathered, seconds + time.perf_counter() - start)
    return result


def _calibrated(stage: Stage) -> bool:
    """Whether the images of an evaluation end on the tone curve of their network."""
    trained = stage.parents[0].training_spec
    return trained.optimise.calibrate and stage.evaluation_spec.sampling.calibrated


def _over_seeds(scores: Sequence[dict[str, float]]) -> dict[str, float]:
    """The mean of each metric over the sampling seeds, and, of several seeds, its standard
    deviation."""
    means: dict[str, float] = {}
    deviations: dict[str, float] = {}
    for name in scores[0]:
        values = [score[name] for score in scores]
        means[name] = float(np.mean(values))
        if len(values) > 1:
            deviations[f"{name}_std"] = float(np.std(values, ddof=1))
    return means | deviations


def _compare(
    parts: Sequence[Part], reference: Reference, data: ImageData, stage: Stage
) -> dict[str, float]:
    """The metrics of one sampling seed's images; in addition to FID `fid_of_real`, the FID of a perfect
    model with equally few images."""
    metrics = stage.evaluation_spec.metrics
    seed = stage.evaluation_spec.seed
    features = torch.cat([p.outputs.features for p in parts])
    logits = torch.cat([p.outputs.logits for p in parts])
    values = compare(
        features, reference, [m for m in sorted(metrics) if m in METRICS], seed, logits
    )
    if "fid" in metrics:
        values["fid_of_real"] = _of_perfect_model(reference, parts, data, seed)
    if "fid_per_class" in metrics and parts[0].labels is not None and data.labels is not None:
        labels = torch.cat([p.labels for p in parts if p.labels is not None])
        by_class = per_class_fid(features, labels, reference.matrix, data.labels).fid
        values |= {f"fid_class_{data.class_names[c]}": value for c, value in by_class.items()}
    if "w2" in metrics:
        values |= point_metrics.distances(features, seed)
    return values


def _compare_second(
    parts: Sequence[Part], references: Sequence[Reference], data: ImageData, stage: Stage
) -> dict[str, float]:
    """The FID of one sampling seed's images by the second features, if there are any, and that of a
    perfect model."""
    values = {}
    for reference in references:
        features = torch.cat([p.second for p in parts if p.second is not None])
        values["fid_second"] = compare(features, reference)["fid"]
        seed = stage.evaluation_spec.seed
        values["fid_second_of_real"] = _of_perfect_model(reference, parts, data, seed)
    return values


def _bootstrap(
    groups: Sequence[Sequence[Part]], references: Sequence[Reference], spec: EvaluationSpec
) -> dict[str, list[float]]:
    """FIDs of resampled images, by metric, for intervals: see `bootstrap_fid`. Empty without FID; wide
    features have none, since a resample of them takes seconds."""
    if "fid" not in spec.metrics:
        return {}
    labels = [[part.labels for part in group] for group in groups]
    known = None
    if labels[0][0] is not None:
        known = [torch.cat([own for own in group if own is not None]) for group in labels]
    resampled = {}
    for name, reference, of in zip(
        ("fid", "fid_second"), references, (_first, _second), strict=False
    ):
        if reference.matrix.shape[1] <= WIDE:
            features = [torch.cat([of(part) for part in group]) for group in groups]
            found = bootstrap_fid(
                features, moments(reference.matrix), known, resamples=RESAMPLES, seed=spec.seed
            )
            for suffix, values in (("", found.values), (layout.OWN_SUFFIX, found.own)):
                resampled[f"{name}{suffix}"] = [float(f"{value:.6g}") for value in values]
    return resampled


def _first(part: Part) -> Tensor:
    return part.outputs.features


def _second(part: Part) -> Tensor:
    assert part.second is not None, "a part has the features of each reference"
    return part.second


def _of_perfect_model(
    reference: Reference, parts: Sequence[Part], data: ImageData, seed: int
) -> float:
    """The FID of a perfect model with as many images as `parts` have. If these were drawn with the
    labels of all of the data, so are those of the perfect model."""
    count = sum(len(part.outputs.features) for part in parts)
    as_data = parts[0].labels is not None and count >= len(data)
    labels = data.labels if as_data else None
    splits = REAL_SPLITS if reference.matrix.shape[1] <= WIDE else REAL_SPLITS_WIDE
    return perfect_model_fid(reference.matrix, count, seed, splits, labels).mean


def _memorisation(
    parts: Sequence[Part], energy: Tensor, images: Tensor, data: ImageData, folder: Path
) -> dict[str, float]:
    nearest = [p.nearest for p in parts if p.nearest is not None]
    if not nearest:
        return {}
    distances = torch.cat([part.distances for part in nearest])
    indices = torch.cat([part.indices for part in nearest])
    if not isinstance(data, PointData):
        diagnostics.save_nearest(folder, images, indices[: len(images), 0], data)
    return diagnostics.of_memorisation(Nearest(distances, indices), energy)


def _gap(
    stage: Stage, storage: str, where: DatasetKind, data: ImageData, folder: Path
) -> dict[str, float]:
    trained = stage.parents[0]
    spec = stage.evaluation_spec
    if "gap" not in spec.diagnostics or trained.kind == "teacher":
        return {}
    teacher = trained.teacher
    shape = (diagnostics.GAP_SAMPLES, data.channels, data.size, data.size)
    labels = labels_for(teacher, None, data, spec.seed, range(shape[0]))
    teacher_network = network(storage, teacher, where).to(device())
    student_network = network(storage, trained, where, spec.sampling.ema).to(device())
    if trained.jumps:
        student_network = UniformJumps(student_network, spec.sampling.steps)
    path = building.path(teacher, data)
    return diagnostics.of_gap(teacher_network, student_network, stage, path, shape, labels, folder)


def _likelihood(
    stage: Stage, storage: str, where: DatasetKind, data: ImageData
) -> dict[str, float]:
    if "log_likelihood" not in stage.evaluation_spec.metrics:
        return {}
    trained = stage.parents[0]
    model = network(storage, trained, where, stage.evaluation_spec.sampling.ema)
    return point_metrics.likelihood(stage, model, building.path(trained, data))


@_reported
def build_reference(
    stage: Stage, storage: str, where: DatasetKind, weights: FeatureWeights
) -> None:
    """Compute and publish the features of all real images and their statistics, once for each data
    set."""
    start = time.perf_counter()
    store = Store(storage)
    data = data_of(stage, where)
    features, extraction = measured_with(stage, store, weights)
    reference = Reference.build(data, features, device=device(), **extraction)
    gathered = store.gather(stage)
    reference.save(gathered / "reference.safetensors")
    write_bytes(gathered / REAL, pictures.panel(data))
    store.publish(stage, gathered, time.perf_counter() - start)


@_reported
def train_features(stage: Stage, storage: str, where: DatasetKind, weights: FeatureWeights) -> None:
    """Train the feature extractor of the data set and publish it."""
    start = time.perf_counter()
    store = Store(storage)
    assert isinstance(stage.spec, FeaturesSpec)
    own = train_own(data_of(stage, where), own_name(stage.key), stage.spec.training, device())
    gathered = store.gather(stage)
    own.save(gathered / OWN_FILE)
    write_json(gathered / ABOUT, {**asdict(own.facts), "text": str(own.facts)})
    store.publish(stage, gathered, time.perf_counter() - start)


def measured_with(
    reference: Stage, store: Store, weights: FeatureWeights
) -> tuple[str, dict[str, Any]]:
    """The features of a `reference` stage, and the arguments that give their weights: a file in the
    store if the extractor was trained on the data."""
    spec = reference.reference_spec
    if spec.plugin is not None:
        spec.plugin.imported()
    for own in reference.parents:
        return spec.features, {"weights": store.result(own.key).path(OWN_FILE)}
    return spec.features, {"weights": weights.path, "weights_sha256": weights.sha256}


@lru_cache(maxsize=4)
def network(storage: str, stage: Stage, where: DatasetKind, ema: float | None = None) -> nn.Module:
    """The finished network of a teacher or student, cached; `ema` as for `building.trained`."""
    return building.trained(Store(storage), stage, data_of(stage, where), ema)


def data_of(stage: Stage, where: DatasetKind) -> ImageData:
    """The data set of `stage`, read with the settings `where`; see `plan.data.checked`."""
    return dataset_info.checked(_images(where), stage)


@lru_cache(maxsize=2)
def _images(where: DatasetKind) -> ImageData:
    """The data set, cached."""
    return dataset_info.images(where)
