"""Finds damaged results, whose files differ from what was written, and sets them aside, so that
their stages run again.

At its start a run checks all the results that it needs. It always compares sizes. It compares the
checksums of files that are new to the store's verified.json, if they have at most HASHED bytes, and
of files that have changed since. What it has checked it writes into verified.json, so that the next
start reads sizes and times only. A process that reads a file compares its checksum anyway. On S3, where
reading costs a download, a start compares sizes only."""

import json
import math
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

from orchestrator.host.invocation import COMMANDS
from orchestrator.host.printed import command
from orchestrator.plan.stage import Stage
from orchestrator.store import layout
from orchestrator.store.last_run import last_run
from orchestrator.store.layout import MANIFEST
from orchestrator.store.leases import LeaseWatch
from orchestrator.store.place import Place
from orchestrator.store.places import place_of
from orchestrator.store.stage_result import DamagedError, Result
from orchestrator.store.store import Store

# the largest file, in bytes, whose checksum a run compares at its start if it is not verified yet
HASHED = 256e6
# the same for commands that only read: tables, curves and samples, but no networks
SMALL = 1e6
PARALLEL = 8  # results that are checked at the same time
POLL_SECONDS = 0.5
AGAIN = "what is damaged is set aside, and the stage runs again"

# for each file of a result: its bytes, and when it was written, in nanoseconds since 1970
FileStates = dict[str, list[int]]


def inspect_result(
    store: Store, key: str, verified: FileStates | None = None, hashed: float = math.inf
) -> tuple[str, FileStates]:
    """What is wrong with the finished result of `key`, empty where nothing is or it is not
    finished; and the present states of its files.

    Compares the checksums of files of at most `hashed` bytes that are not in `verified`, and of
    files that have changed since; with `hashed` infinite those of all files, also on S3."""
    result, verified = Result(store.root / layout.STAGES / key), verified or {}
    try:
        if not store.done(key):
            return _missing_manifest(result.folder), {}
        states = result.sizes()
        for name, state in states.items():
            if name in verified:
                due = verified[name] != state
            else:
                due = state[0] <= hashed
            if math.isinf(hashed) or (due and result.folder.is_local):
                result.path(name)
    except DamagedError as e:
        return e.problems[key], {}
    return "", states


def _missing_manifest(folder: Place) -> str:
    """A message where a result has files but no manifest."""
    damaged = folder.is_local and folder.is_dir() and bool(folder.find("*"))
    return f"{MANIFEST} is missing" if damaged else ""


def find_damaged(
    store: Store, stages: Iterable[Stage], hashed: float = SMALL, remember: bool = False
) -> list[tuple[Stage, str]]:
    """Those of `stages` whose finished results are damaged, and what is wrong with each.
    `remember`: write the undamaged ones into verified.json, so that they are not read again."""
    verified = _read_verified(store)
    stages = list(stages)

    def inspect(stage: Stage) -> tuple[str, FileStates]:
        return inspect_result(store, stage.key, verified.get(stage.key), hashed)

    with ThreadPoolExecutor(PARALLEL) as pool:
        results = list(zip(stages, pool.map(inspect, stages), strict=True))
    undamaged = {stage.key: states for stage, (_, states) in results if states}
    if remember and any(verified.get(key) != states for key, states in undamaged.items()):
        _write_verified(store, {**verified, **undamaged})
    return [(stage, problem) for stage, (problem, _) in results if problem]


def _read_verified(store: Store) -> dict[str, FileStates]:
    try:
        verified = json.loads((store.root / layout.VERIFIED).read_text())
    except (OSError, ValueError):
        return {}
    if not isinstance(verified, dict):
        return {}
    return {key: states for key, states in verified.items() if isinstance(states, dict)}


def _write_verified(store: Store, verified: dict[str, FileStates]) -> None:
    keys = {place.name for place in (store.root / layout.STAGES).find("*")}
    with suppress(OSError):  # then the next start compares them again
        present = {key: states for key, states in verified.items() if key in keys}
        (store.root / layout.VERIFIED).put_json(present)


def check(store: Store, stages: Iterable[Stage]) -> None:
    """Raise DamagedError where the finished result of one of `stages` is damaged: for commands that
    only read."""
    damaged = find_damaged(store, stages)
    if damaged:
        raise DamagedError(str(store.root), {stage.key: problem for stage, problem in damaged})


def set_aside_damaged(store: Store, stages: Sequence[Stage]) -> list[str]:
    """Set aside the damaged results of `stages`, so that these run again; a message for each."""
    damaged = find_damaged(store, stages, HASHED, remember=True)
    messages = [set_aside(store, stage) for stage, _ in damaged]
    return [message for message in messages if message]


def set_aside(store: Store, stage: Stage) -> str:
    """Set aside the result of `stage` if it is damaged; returns a message, empty where nothing was
    done. Holds the stage's lease, so that a new result of another process is not set aside."""
    if not inspect_result(store, stage.key)[0]:
        return ""
    watch = LeaseWatch(store.work(stage.key))
    while (lease := watch.try_take()) is None:
        time.sleep(POLL_SECONDS * store.root.poll_factor)
        if not inspect_result(store, stage.key)[0]:  # another process has run the stage again
            return ""
    with lease:
        problem = inspect_result(store, stage.key)[0]
        message = store.set_aside(stage, problem) if problem else ""
    if store.done(stage.key):
        store.discard_work(stage.key)
    return message


def lost_among(store: Store, stages: Iterable[Stage], read_damaged_file: bool) -> list[Stage]:
    """Those of `stages` whose results are damaged or removed. `read_damaged_file`: a reader has
    found a damaged file, so all checksums are compared."""
    hashed = math.inf if read_damaged_file else 0.0
    lost = []
    for stage in stages:
        with suppress(OSError):  # an unreachable storage does not mean that a result is lost
            if not store.done(stage.key) or inspect_result(store, stage.key, hashed=hashed)[0]:
                lost.append(stage)
    return lost


def ancestors(stages: Iterable[Stage]) -> list[Stage]:
    """All ancestors of `stages`, each once, parents first."""
    by_key: dict[str, Stage] = {}
    for stage in stages:
        for parent in stage.parents:
            by_key |= {ancestor.key: ancestor for ancestor in (*ancestors([parent]), parent)}
    return list(by_key.values())


def remedy(error: DamagedError) -> str:
    """The remedy for damaged results: the command of the latest sweep that needs one of them."""
    root = place_of(error.root).absolute()
    with suppress(OSError):
        plans = (root / layout.SWEEPS).find(layout.ANY_PLAN)
        for file in sorted(plans, key=last_run, reverse=True):
            with suppress(ValueError, KeyError, TypeError, AttributeError):
                plan = json.loads(file.read_text())
                if error.problems.keys() & plan["stages"].keys():
                    return f"run the sweep again: {_command(root, file.parent, plan)}; {AGAIN}"
    return f"run the sweep again: {command('sweep', 'FILE')}; {AGAIN}"


def _command(root: Place, folder: Place, plan: dict[str, Any]) -> str:
    if not isinstance(folder, Path):  # no command takes an experiment from S3
        return command(COMMANDS[plan["goal"]], f"{plan['name']}.yaml")
    file = folder / layout.CONFIG
    return command(COMMANDS[plan["goal"]], file, *_storage_option(root, file))


def _storage_option(root: Place, file: Path) -> list[str]:
    """The option that names the store at `root`; empty where the sweep's own `file` names it. In a
    copied store the file names the original."""
    from orchestrator.settings import yaml_reader

    storage = yaml_reader.load_text(file.read_text(), str(file)).get("storage", "runs")
    return [] if place_of(storage).absolute() == root else ["--set", f"storage={root}"]
