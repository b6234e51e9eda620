"""What trials need beside their data, looked at before anything starts: what their images are
measured with is needed last, when everything is trained."""

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
    """The weights that `features` take: in the file `path`, None: the official ones, with the
    checksum `sha256`, None: theirs."""

    features: str
    path: str | None
    sha256: str | None


def weights_needed(configs: Iterable[Experiment]) -> list[Weights]:
    """The weights that the evaluations of `configs` take, each once; none for features that need no
    file."""
    found = []
    for config in configs:
        asked = config.evaluation.absolute()
        features = features_for(config.data.name, asked.features, asked.weights)
        if features in OFFICIAL:
            found.append(Weights(features, asked.weights, asked.weights_sha256))
    return list(dict.fromkeys(found))


def weights_faults(needed: Iterable[Weights], source: str) -> Iterator[Fault]:
    """What is wrong with weights on this machine: files that cannot be read, or hold something
    else. Official ones that are not here yet are no fault: see `fetch`."""
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
            remedy = (
                f"expected a file with the weights of {weights.features}, such as {official.url}"
            )
            yield Fault(source, "evaluation.weights", f"{what}, {remedy}")
        except ValueError as e:
            key = (
                "evaluation.weights_sha256" if weights.sha256 is not None else "evaluation.weights"
            )
            yield Fault(source, key, _in_full(str(e)))


def to_fetch(needed: Iterable[Weights]) -> list[str]:
    """The features whose official weights are needed and not on this machine."""
    return [w.features for w in needed if w.path is None and not OFFICIAL[w.features].path.exists()]


def unreachable(needed: Iterable[Weights], source: str) -> Iterator[Fault]:
    """A fault for each server from which official weights are to be fetched and that does not
    answer from here."""
    for features in to_fetch(needed):
        official = OFFICIAL[features]
        try:
            urlopen(Request(official.url, method="HEAD"), timeout=ANSWER_SECONDS).close()
        except OSError as e:
            what = f"got null, and the weights of {features} cannot be fetched ({e})"
            remedy = f"fetch {official.url} elsewhere, then give its path as evaluation.weights"
            yield Fault(
                source, "evaluation.weights", f"{what}: {remedy}, or put it at {official.path}"
            )


def fetch(needed: Iterable[Weights], source: str) -> Iterator[Fault]:
    """Fetch the official weights that are not on this machine yet; a fault for each that cannot be
    had."""
    for features in to_fetch(needed):
        from kaccore.metrics.extractors import fetch_official_weights

        try:
            fetch_official_weights(features)
        except RuntimeError as e:
            yield Fault(source, "evaluation.weights", _in_full(f"got null: {e}"))


def data_faults(trials: Iterable[Trial], source: str) -> Iterator[Fault]:
    """What is wrong with the data of `trials` for the features that they are measured with."""
    for trial in trials:
        count = trial.facts.data.count
        if trial.facts.features == OWN and count is not None and count < OWN_LEAST_IMAGES:
            what = f"got {trial.config.evaluation.features}: the data's own features, and {trial.config.data.name} has"
            remedy = f"expected {OWN_LEAST_IMAGES} or more; {standard_number('evaluation.weights')}"
            yield Fault(source, "evaluation.features", f"{what} {count} images, {remedy}")


def before_start(
    trials: Iterable[Trial], store: Store, source: str, dry: bool = False
) -> list[Weights]:
    """The weights that `trials` are measured with, as far as `store` has not their results yet.
    Raises ConfigError where they, or data that suit the features, are not here; official weights
    are fetched, unless it is a `dry` run."""
    open_ones = [t for t in trials if t.reference is not None and not store.done(t.key)]
    needed = weights_needed(t.config for t in open_ones)
    faults = [*data_faults(open_ones, source), *weights_faults(needed, source)]
    if not faults and not dry:
        faults = list(fetch(needed, source))
    if faults:
        raise ConfigError(faults)
    return needed


def left_to_fetch(needed: Iterable[Weights]) -> list[str]:
    """What a dry run has left to be fetched, in words."""
    return [
        f"the weights of {name} would be fetched from {OFFICIAL[name].url}"
        for name in to_fetch(needed)
    ]


def _in_full(message: str) -> str:
    """kaccore's message with the settings' whole names."""
    for name in ("features", "weights", "weights_sha256"):
        message = message.replace(f"`{name}`", f"evaluation.{name}")
    return message


@lru_cache
def _sha256(path: Path, written: int) -> str:
    return file_sha256(path)
