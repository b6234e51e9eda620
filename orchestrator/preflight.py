"""What trials need beside their data, looked at before anything starts: what their images are measured with is needed
last, when everything is trained."""

from collections.abc import Iterable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from kaccore.features import OFFICIAL, check_hash, features_for
from kaccore.files import file_sha256
from orchestrator.config import Experiment
from orchestrator.faults import ConfigError, Fault


class Weights(NamedTuple):
    """The weights that `features` take: in the file `path`, None: the official ones, with the checksum `sha256`, None:
    theirs."""

    features: str
    path: str | None
    sha256: str | None


def weights_needed(configs: Iterable[Experiment]) -> list[Weights]:
    """The weights that the evaluations of `configs` take, each once; none for features that need no file."""
    found = []
    for config in configs:
        asked = config.evaluation
        features = features_for(config.data.name, asked.features, asked.weights)
        if features in OFFICIAL:
            found.append(Weights(features, asked.weights, asked.weights_sha256))
    return list(dict.fromkeys(found))


def weights_faults(needed: Iterable[Weights], source: str) -> Iterator[Fault]:
    """What is wrong with weights on this machine: files that cannot be read, or hold something else. Official ones that
    are not here yet are no fault: see `fetched`."""
    for weights in needed:
        official = OFFICIAL[weights.features]
        path = Path(weights.path) if weights.path is not None else official.path
        if weights.path is None and not path.exists():
            continue
        try:
            check_hash(path, _sha256(path, path.stat().st_mtime_ns), weights.sha256, weights.features)
        except OSError as e:
            what = f"got {path}, which cannot be read ({e.strerror or e})"
            remedy = f"expected a file with the weights of {weights.features}, such as {official.url}"
            yield Fault(source, "evaluation.weights", f"{what}, {remedy}")
        except ValueError as e:
            key = "evaluation.weights_sha256" if weights.sha256 is not None else "evaluation.weights"
            yield Fault(source, key, _in_full(str(e)))


def to_fetch(needed: Iterable[Weights]) -> list[str]:
    """The features whose official weights are needed and not on this machine."""
    return [w.features for w in needed if w.path is None and not OFFICIAL[w.features].path.exists()]


def fetch(needed: Iterable[Weights], source: str) -> Iterator[Fault]:
    """Fetch the official weights that are not on this machine yet; a fault for each that cannot be had."""
    for features in to_fetch(needed):
        from kaccore.extractors import fetch_official_weights

        try:
            fetch_official_weights(features)
        except RuntimeError as e:
            yield Fault(source, "evaluation.weights", _in_full(f"got null: {e}"))


def before_start(configs: Iterable[Experiment], source: str, dry: bool = False) -> list[str]:
    """Raise ConfigError unless what the evaluations of `configs` take is here, fetching what can be; where `dry`,
    nothing is fetched, and what would be is returned in words."""
    needed = weights_needed(configs)
    faults = list(weights_faults(needed, source))
    if not faults and not dry:
        faults = list(fetch(needed, source))
    if faults:
        raise ConfigError(faults)
    return [f"the weights of {name} would be fetched from {OFFICIAL[name].url}" for name in to_fetch(needed)]


def _in_full(message: str) -> str:
    """kaccore's message with the settings' whole names."""
    for name in ("features", "weights", "weights_sha256"):
        message = message.replace(f"`{name}`", f"evaluation.{name}")
    return message


@lru_cache
def _sha256(path: Path, written: int) -> str:
    return file_sha256(path)
