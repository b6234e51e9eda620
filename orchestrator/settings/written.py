"""Paths and addresses that users write in a file or with --set: environment variables are replaced
by their values, and obvious mistakes are refused. Settings that this project has stored are not
treated this way: a sweep is read without the variables of the shell that ran it."""

from collections.abc import Callable, Mapping
from typing import Any

from orchestrator.fields.addresses import meant, nameable
from orchestrator.fields.faults import Fault
from orchestrator.settings.tracking_address import meant_uri

PLACES: Mapping[str, Callable[[str], str]] = {
    "storage": meant,
    "data.root": meant,
    "data.cache": meant,
    "evaluation.weights": meant,
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
