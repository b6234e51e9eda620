"""Paths and addresses that users write in a file or with --set: environment variables are replaced
by their values, and obvious mistakes are refused. Settings that this project has stored are not
treated this way: a sweep is read without the variables of the shell that ran it."""

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from orchestrator.fields.addresses import meant, nameable
from orchestrator.fields.faults import Fault, describe
from orchestrator.settings.tracking_address import meant_uri

PLACES: Mapping[str, Callable[[str], str]] = {
    "storage": meant,
    "data.root": meant,
    "data.cache": meant,
    "evaluation.weights": meant,
    "teacher.weights": meant,
    "tracking.uri": meant_uri,
    "data.split": nameable,
}


def settled(data: Any) -> tuple[Any, list[Fault]]:
    """`data` with its paths and addresses resolved, and their faults, without sources."""
    faults: list[Fault] = []
    for key, settle in PLACES.items():
        for path in (key.split("."), ["sweep", "space", key]):
            data = _changed(data, path, settle, ".".join(path), faults)
    return data, faults


def with_hash(data: Any, faults: list[Fault]) -> Any:
    """`data` with the SHA-256 of the file in teacher.weights, where it does not say it: what is stored
    says which weights were meant."""
    teacher = data.get("teacher") if isinstance(data, dict) else None
    if not isinstance(teacher, dict) or not isinstance(teacher.get("weights"), str):
        return data
    if teacher.get("weights_sha256") is not None or not teacher["weights"]:
        return data
    try:
        with Path(teacher["weights"]).open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        message = f"got {describe(teacher['weights'])}, which cannot be read ({reason})"
        faults.append(Fault("", "teacher.weights", message))
        return data
    return {**data, "teacher": {**teacher, "weights_sha256": found}}


def _changed(
    data: Any, path: list[str], settle: Callable[[str], str], key: str, faults: list[Fault]
) -> Any:
    """`data` with every text at and below `path` resolved by `settle`; its faults are added to
    `faults`, under `key`."""
    if path:
        if not isinstance(data, dict) or path[0] not in data:
            return data
        return {**data, path[0]: _changed(data[path[0]], path[1:], settle, key, faults)}
    if isinstance(data, list):
        return [_changed(value, [], settle, key, faults) for value in data]
    if isinstance(data, dict):  # {grid: [...]} of a sweep
        return {name: _changed(value, [], settle, key, faults) for name, value in data.items()}
    if isinstance(data, str) and data:
        try:
            return settle(data)
        except ValueError as error:
            faults.append(Fault("", key, str(error)))
    return data
