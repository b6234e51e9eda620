"""What lies in a store: its finished stages, the sweeps that need them, and which of those are
being run."""

import json
import time
from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatch
from typing import Any

from kaccore.files import CorruptFileError
from orchestrator.store import layout, leases
from orchestrator.store.place import Place
from orchestrator.store.stage_result import DamagedError, Result

DAMAGED = "damaged"


@dataclass(frozen=True)
class StoredStage:
    """A finished stage in the store: what it is, how many bytes, how many seconds old, and the
    sweeps that need it. The kind of one whose manifest cannot be read is DAMAGED."""

    key: str
    kind: str
    name: str
    bytes: int
    age: float
    needed_by: tuple[str, ...]


def entries(root: Place) -> list[StoredStage]:
    """All finished stages of the store at `root`, the newest first."""
    plans, now = _plans(root), time.time()
    needs = {name: set(plan["stages"]) for name, plan in plans.items()}
    names = _names(plans.values())
    found = []
    for path in (root / layout.STAGES).find(f"*/{layout.MANIFEST}"):
        key = path.parent.name
        needed_by = tuple(sorted(name for name, keys in needs.items() if key in keys))
        try:
            manifest = Result(path.parent).manifest
            size = sum(f["bytes"] for f in manifest["files"].values())
            name = names.get(key, manifest["label"])
            found.append(
                StoredStage(
                    key, manifest["kind"], name, size, now - manifest["finished"], needed_by
                )
            )
        except DamagedError as e:
            size = sum(size for size, _ in path.parent.listing().values())
            found.append(
                StoredStage(key, DAMAGED, e.problems[key], size, now - path.modified(), needed_by)
            )
    return sorted(found, key=lambda e: e.age)


def sweeps(root: Place) -> dict[str, set[str]]:
    """The keys of the stages that each sweep, as name/id, is made of."""
    return {name: set(plan["stages"]) for name, plan in _plans(root).items()}


def _plans(root: Place) -> dict[str, dict[str, Any]]:
    """What plan.json says of each sweep, as name/id."""
    found = {}
    for path in (root / layout.SWEEPS).find(layout.ANY_PLAN):
        try:
            planned = json.loads(path.read_text())
            planned["stages"].items()
        except (ValueError, KeyError, TypeError, AttributeError) as e:
            what = f"{path} is damaged ({type(e).__name__}: {e}), so that nobody knows which stages its sweep needs"
            raise CorruptFileError(
                f"{what}: run its experiment again, which writes it anew"
            ) from None
        found[f"{path.parent.parent.name}/{path.parent.name}"] = planned
    return found


def _names(plans: Iterable[dict[str, Any]]) -> dict[str, str]:
    """What to call each stage, by its key: as the sweep does that has to say most to tell its own
    apart."""
    found: dict[str, str] = {}
    for plan in plans:
        for key, stage in plan["stages"].items():
            name = stage.get("name", "")  # an earlier version's plan has none
            if len(name) > len(found.get(key, "")):
                found[key] = name
    return found


def running(root: Place) -> set[str]:
    """The sweeps, as name/id, that are being run at this moment. Takes some seconds where one seems
    to be."""
    before = {folder: _beat(folder) for folder in (root / layout.RAY).find("*") if folder.is_dir()}
    found: set[str] = set()
    until = time.monotonic() + leases.stale_seconds(root)
    open_ones = {folder for folder, beat in before.items() if beat}
    while open_ones and time.monotonic() < until:
        for folder in [f for f in open_ones if _beat(f) != before[f]]:
            open_ones.discard(folder)
            found |= _sweep_of(folder)
        time.sleep(leases.heartbeat_seconds(root) / 8)
    return found


def unneeded(found: Iterable[StoredStage], keep: Iterable[str]) -> list[StoredStage]:
    """Those of `found` that no sweep needs which is, by its name or by name/id, one of the patterns
    `keep`."""
    patterns = list(keep)
    return [
        e for e in found if not any(matches(sweep, p) for sweep in e.needed_by for p in patterns)
    ]


def matches(sweep: str, pattern: str) -> bool:
    """Whether `pattern` means `sweep` (name/id), by its name or by the whole."""
    return fnmatch(sweep, pattern) or fnmatch(sweep.split("/")[0], pattern)


def _beat(folder: Place) -> str:
    """What the newest lease of a running sweep's folder says; empty where it was released, or never
    was."""
    try:
        text = (folder / f"lease.{leases.newest(folder)}").read_text()
    except OSError:
        return ""
    return "" if '"released"' in text else text or "new"


def _sweep_of(folder: Place) -> set[str]:
    try:
        said: dict[str, Any] = json.loads((folder / "sweep.json").read_text())
    except (OSError, ValueError):
        return set()
    return {said["sweep"]}


def size_text(count: float) -> str:
    """Bytes for people."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def age_text(seconds: float) -> str:
    """An age for people."""
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{seconds / length:.0f} {unit}"
    return f"{max(0.0, seconds):.0f} s"
