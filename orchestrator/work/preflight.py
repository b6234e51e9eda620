"""Checks, before anything starts, what trials need in addition to their data: without it, the evaluation
would fail after all training."""

from collections.abc import Iterable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple
from urllib.request import Request, urlopen

from kaccore.files import file_sha256
from kaccore.metrics.features import (
    OFFICIAL,
    OWN,
    OWN_LEAST_IMAGES,
    check_hash,
    features_for,
    standard_number,
)
from orchestrator.fields.faults import ConfigError, Fault
from orchestrator.plan.plan import Trial
from orchestrator.settings.experiment import Experiment
from orchestrator.store.store import Store

ANSWER_SECONDS = 20.0


class Weights(NamedTuple):
    """The weights of the extractor `features`. `path`: their file, None: the official weights.
    `sha256`: the expected checksum, None: that of the official weights."""

    features: str
    path: str | None
    sha256: str | None


def weights_needed(configs: Iterable[Experiment]) -> list[Weights]:
    """The weights that the evaluations of `configs` need, without duplicates; none for features that
    need no file."""
    needed = []
    for config in configs:
        evaluation = config.evaluation.absolute()
        features = features_for(
            config.data.name, evaluation.features, evaluation.weights, config.data.facts.points
        )
        if features in OFFICIAL:
            needed.append(Weights(features, evaluation.weights, evaluation.weights_sha256))
        if evaluation.second in OFFICIAL and "fid" in evaluation.metrics:
            needed.append(Weights(evaluation.second, None, None))
    return list(dict.fromkeys(needed))


def weights_faults(needed: Iterable[Weights], source: str) -> Iterator[Fault]:
    """The faults of weights on this machine: files that cannot be read or have other content.
    Official weights that are still to be downloaded are not a fault; see `fetch`."""
    for weights in needed:
        official = OFFICIAL[weights.features]
        path = Path(weights.path) if weights.path is not None else official.path
        if weights.path is None and not path.exists():
            continue
        try:
            check_hash(
                path, _sha256(path, path.stat().st_mtime_ns), weights.sha256, weights.features
            )
        except OSError as e:
            what = f"got {path}, which cannot be read ({e.strerror or e})"
            expected = f"the weights of {weights.features}, such as {official.url}"
            yield Fault(source, "evaluation.weights", f"{what}, expected a file with {expected}")
        except ValueError as e:
            key = "evaluation.weights"
            if weights.sha256 is not None:
                key = "evaluation.weights_sha256"
            yield Fault(source, key, _in_full(str(e)))


def to_fetch(needed: Iterable[Weights]) -> list[str]:
    """The features whose official weights are needed and missing on this machine."""
    return [w.features for w in needed if w.path is None and not OFFICIAL[w.features].path.exists()]


def unreachable(needed: Iterable[Weights], source: str) -> Iterator[Fault]:
    """A fault for each official weights file that is to be downloaded and whose server does not
    answer this machine."""
    for features in to_fetch(needed):
        official = OFFICIAL[features]
        try:
            urlopen(Request(official.url, method="HEAD"), timeout=ANSWER_SECONDS).close()
        except OSError as e:
            what = f"got null, and the weights of {features} cannot be fetched ({e})"
            remedy = f"fetch {official.url} elsewhere, then give its path as evaluation.weights"
            message = f"{what}: {remedy}, or put it at {official.path}"
            yield Fault(source, "evaluation.weights", message)


def fetch(needed: Iterable[Weights], source: str) -> Iterator[Fault]:
    """Download the official weights that are missing on this machine; a fault for each that cannot
    be downloaded."""
    for features in to_fetch(needed):
        from kaccore.metrics.extractors import fetch_official_weights

        try:
            fetch_official_weights(features)
        except RuntimeError as e:
            yield Fault(source, "evaluation.weights", _in_full(f"got null: {e}"))


def data_faults(trials: Iterable[Trial], source: str) -> Iterator[Fault]:
    """The faults of data sets that do not suit the features of `trials`."""
    for trial in trials:
        count = trial.facts.data.count
        if trial.facts.features == OWN and count is not None and count < OWN_LEAST_IMAGES:
            features = trial.config.evaluation.features
            name = trial.config.data.name
            what = f"got {features}: features trained on the data, but {name} has {count} images"
            remedy = f"expected {OWN_LEAST_IMAGES} or more; {standard_number('evaluation.weights')}"
            yield Fault(source, "evaluation.features", f"{what}, {remedy}")


def before_start(
    trials: Iterable[Trial], store: Store, source: str, dry: bool = False
) -> list[Weights]:
    """The weights that `trials` without a result in `store` are measured with. Official weights are
    downloaded, except in a `dry` run. Raises ConfigError if weights are missing or wrong, or if the
    data do not suit the features."""
    unfinished = [t for t in trials if t.reference is not None and not store.done(t.key)]
    needed = weights_needed(t.config for t in unfinished)
    faults = [*data_faults(unfinished, source), *weights_faults(needed, source)]
    if not faults and not dry:
        faults = list(fetch(needed, source))
    if faults:
        raise ConfigError(faults)
    return needed


def left_to_fetch(needed: Iterable[Weights]) -> list[str]:
    """Messages about the weights that a run would download."""
    return [
        f"the weights of {name} would be fetched from {OFFICIAL[name].url}"
        for name in to_fetch(needed)
    ]


def _in_full(message: str) -> str:
    """kaccore's message with the full keys of settings."""
    for name in ("features", "weights", "weights_sha256"):
        message = message.replace(f"`{name}`", f"evaluation.{name}")
    return message


@lru_cache
def _sha256(path: Path, written: int) -> str:
    """The checksum of a file; cached until its modification time `written` changes."""
    return file_sha256(path)
