"""The content of a store: its finished stages, the sweeps that need them, and which sweeps are
running."""

import json
import time
from collections import defaultdict
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
    """A finished stage in the store: its size in bytes, its age in seconds, and the sweeps that
    need it. Its kind is DAMAGED where its manifest cannot be read."""

    key: str
    kind: str
    name: str
    bytes: int
    age: float
    needed_by: tuple[str, ...]


def stored_stages(root: Place) -> list[StoredStage]:
    """All finished stages of the store at `root`, the newest first."""
    plans, now = _plans(root), time.time()
    needs = {name: set(plan["stages"]) for name, plan in plans.items()}
    names = _names(plans.values())
    stages = []
    for file in (root / layout.STAGES).find(f"*/{layout.MANIFEST}"):
        key = file.parent.name
        needed_by = tuple(sorted(name for name, keys in needs.items() if key in keys))
        try:
            manifest = Result(file.parent).manifest
            kind, name = manifest["kind"], names.get(key, manifest["label"])
            size = sum(entry["bytes"] for entry in manifest["files"].values())
            age = now - manifest["finished"]
        except DamagedError as e:
            kind, name = DAMAGED, e.problems[key]
            size = sum(size for size, _ in file.parent.listing().values())
            age = now - file.modified()
        stages.append(StoredStage(key, kind, name, size, age, needed_by))
    return sorted(stages, key=lambda stage: stage.age)


def needed_stages(root: Place) -> dict[str, set[str]]:
    """The keys of the stages that each sweep (name/id) needs."""
    return {name: set(plan["stages"]) for name, plan in _plans(root).items()}


def _plans(root: Place) -> dict[str, dict[str, Any]]:
    """The content of plan.json of each sweep (name/id)."""
    plans = {}
    for file in (root / layout.SWEEPS).find(layout.ANY_PLAN):
        try:
            plan = json.loads(file.read_text())
            plan["stages"].items()
        except (ValueError, KeyError, TypeError, AttributeError) as e:
            what = f"{file} is damaged ({type(e).__name__}: {e})"
            effect = "the stages that its sweep needs are unknown"
            remedy = "run its experiment again, which rewrites it"
            raise CorruptFileError(f"{what}, so {effect}: {remedy}") from None
        plans[f"{file.parent.parent.name}/{file.parent.name}"] = plan
    return plans


def _names(plans: Iterable[dict[str, Any]]) -> dict[str, str]:
    """The name of each stage, by its key: the longest one that a sweep gives it, with all that
    distinguishes it there."""
    names: dict[str, str] = {}
    for plan in plans:
        for key, stage in plan["stages"].items():
            name = stage.get("name", "")  # a plan of an earlier version has none
            if len(name) > len(names.get(key, "")):
                names[key] = name
    return names


def running(root: Place, only: str | None = None) -> dict[str, list[Place]]:
    """The sweeps (name/id) that are running, or of them the one of the name `only`: those with a new
    heartbeat, and the folders of their runs. Waits some seconds for it where a run has not released
    its lease."""
    folders = [folder for folder in (root / layout.RAY).find("*") if folder.is_dir()]
    if only is not None:
        folders = [folder for folder in folders if only in _sweep_of(folder)]
    first = {folder: _heartbeat(folder) for folder in folders}
    undecided = {folder for folder, heartbeat in first.items() if heartbeat}
    sweeps = defaultdict[str, list[Place]](list)
    until = time.monotonic() + leases.stale_seconds(root)
    while undecided and time.monotonic() < until:
        for folder in list(undecided):
            if _heartbeat(folder) != first[folder]:
                undecided.discard(folder)
                for sweep in _sweep_of(folder):
                    sweeps[sweep].append(folder)
        time.sleep(leases.heartbeat_seconds(root) / 8)
    return dict(sweeps)


def unneeded(stages: Iterable[StoredStage], keep: Iterable[str]) -> list[StoredStage]:
    """Those of `stages` that no sweep needs whose name or name/id matches a pattern of `keep`."""
    patterns = list(keep)

    def is_kept(stage: StoredStage) -> bool:
        return any(matches(sweep, pattern) for sweep in stage.needed_by for pattern in patterns)

    return [stage for stage in stages if not is_kept(stage)]


def matches(sweep: str, pattern: str) -> bool:
    """Whether `pattern` matches `sweep` (name/id) or its name alone."""
    return fnmatch(sweep, pattern) or fnmatch(sweep.split("/")[0], pattern)


def _heartbeat(folder: Place) -> str:
    """The content of the newest lease of a run's folder; empty where it was released or there is
    none."""
    try:
        text = (folder / f"lease.{leases.newest(folder)}").read_text()
    except OSError:
        return ""
    return "" if '"released"' in text else text or "new"


def _sweep_of(folder: Place) -> set[str]:
    """The sweep (name/id) of a run's folder; empty where it cannot be read."""
    try:
        content: dict[str, Any] = json.loads((folder / "sweep.json").read_text())
    except (OSError, ValueError):
        return set()
    return {content["sweep"]}


def size_text(count: float) -> str:
    """A number of bytes for people."""
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
