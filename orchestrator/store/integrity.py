"""Finished results whose files are not what was written: found, said, set aside, and made again.

A run looks at all the results that it needs before it begins. Sizes are always compared. Checksums
are compared of files that were not seen before, up to HASHED bytes, and of any file that was
written since it was seen last. What was seen is in the store as verified.json, so that a second
start asks for sizes and times alone. Whoever reads a file compares its checksum anyway. On S3,
where reading costs a download, a start compares sizes alone."""

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
from orchestrator.store.begun import begun
from orchestrator.store.layout import MANIFEST
from orchestrator.store.leases import LeaseWatch
from orchestrator.store.place import Place
from orchestrator.store.places import place_of
from orchestrator.store.stage_result import DamagedError, Result
from orchestrator.store.store import Store

HASHED = (
    256e6  # bytes of a file whose checksum is compared at the start of a run, unless it was before
)
# the same of commands that read and note nothing: tables, curves and samples, but no networks
SMALL = 1e6
AT_ONCE = 8  # results that are looked at side by side
POLL_SECONDS = 0.5
AGAIN = "what is damaged is set aside, and the stage is trained again"

Seen = dict[
    str, list[int]
]  # of each file of a result its bytes, and when it was written, in nanoseconds


def look(
    store: Store, key: str, seen: Seen | None = None, hashed: float = math.inf
) -> tuple[str, Seen]:
    """What is wrong with the finished result of `key`, in words, empty where nothing is or it is
    not finished; and its files as they are. Checksums are compared of files of at most `hashed`
    bytes that were not `seen`, and of any that were written since; where that is infinite of all,
    also on S3."""
    result, before = Result(store.root / layout.STAGES / key), seen or {}
    try:
        if not store.done(key):
            lost = (
                result.folder.is_local and result.folder.is_dir() and bool(result.folder.find("*"))
            )
            return (f"{MANIFEST} is missing" if lost else ""), {}
        there = result.sizes()
        for name, state in there.items():
            due = state[0] <= hashed if name not in before else before[name] != state
            if math.isinf(hashed) or (due and result.folder.is_local):
                result.path(name)
    except DamagedError as e:
        return e.found[key], {}
    return "", there


def damaged(
    store: Store, stages: Iterable[Stage], hashed: float = SMALL, note: bool = False
) -> list[tuple[Stage, str]]:
    """Those of `stages` whose finished results are damaged, with what is wrong; `note`: what is
    sound is noted in the store, and not compared again."""
    noted = _noted(store)
    asked = list(stages)
    with ThreadPoolExecutor(AT_ONCE) as pool:
        found = list(
            pool.map(lambda stage: look(store, stage.key, noted.get(stage.key), hashed), asked)
        )
    sound = {stage.key: seen for stage, (_, seen) in zip(asked, found, strict=True) if seen}
    if note and any(noted.get(key) != seen for key, seen in sound.items()):
        there = {place.name for place in (store.root / layout.STAGES).find("*")}
        with suppress(OSError):  # then it is compared again the next time
            kept = {key: seen for key, seen in {**noted, **sound}.items() if key in there}
            (store.root / layout.VERIFIED).put_json(kept)
    return [(stage, what) for stage, (what, _) in zip(asked, found, strict=True) if what]


def _noted(store: Store) -> dict[str, Seen]:
    try:
        noted = json.loads((store.root / layout.VERIFIED).read_text())
    except (OSError, ValueError):
        return {}
    return (
        {k: v for k, v in noted.items() if isinstance(v, dict)} if isinstance(noted, dict) else {}
    )


def check(store: Store, stages: Iterable[Stage]) -> None:
    """Raise DamagedError where the finished result of one of `stages` is damaged: for commands that
    only read."""
    if found := damaged(store, stages):
        raise DamagedError(str(store.root), {stage.key: what for stage, what in found})


def mend(store: Store, stages: Sequence[Stage]) -> list[str]:
    """Set the damaged results among those of `stages` aside, so that they are made again: a line
    for each."""
    found = damaged(store, stages, HASHED, note=True)
    return [said for stage, _ in found if (said := set_aside(store, stage))]


def set_aside(store: Store, stage: Stage) -> str:
    """Set the result of `stage` aside if it is damaged, once: under the stage's lease, so that no
    result that another process has made again meanwhile goes with it. What was done, in words;
    empty where nothing was."""
    if not look(store, stage.key)[0]:
        return ""
    watch = LeaseWatch(store.work(stage.key))
    while (lease := watch.try_take()) is None:
        time.sleep(POLL_SECONDS * store.root.poll_factor)
        if not look(store, stage.key)[0]:
            return ""
    with lease:
        what = look(store, stage.key)[0]
        said = store.set_aside(stage, what) if what else ""
    if store.done(stage.key):
        store.discard_work(stage.key)
    return said


def lost_among(store: Store, stages: Iterable[Stage], read: bool) -> list[Stage]:
    """Those of `stages` whose results are damaged, or not there any more. `read`: a reader has
    found one of them to be damaged, so that all checksums are compared."""
    lost = []
    for stage in stages:
        with suppress(OSError):  # the storage is out of reach, which is another fault
            if (
                not store.done(stage.key)
                or look(store, stage.key, hashed=math.inf if read else 0.0)[0]
            ):
                lost.append(stage)
    return lost


def ancestors(stages: Iterable[Stage]) -> list[Stage]:
    """All stages that `stages` build on, each once, parents first."""
    found: dict[str, Stage] = {}
    for stage in stages:
        for parent in stage.parents:
            found |= {s.key: s for s in (*ancestors([parent]), parent)}
    return list(found.values())


def remedy(error: DamagedError) -> str:
    """What to do about damaged results: the command that makes them again, where the store knows
    it."""
    root = place_of(error.root).absolute()
    with suppress(OSError):
        for noted in sorted((root / layout.SWEEPS).find(layout.ANY_PLAN), key=begun, reverse=True):
            with suppress(ValueError, KeyError, TypeError, AttributeError):
                planned = json.loads(noted.read_text())
                if error.found.keys() & planned["stages"].keys():
                    return f"run the sweep again: {_command(root, noted.parent, planned)}; {AGAIN}"
    return f"run the sweep again: {command('sweep', 'FILE')}; {AGAIN}"


def _command(root: Place, folder: Place, planned: dict[str, Any]) -> str:
    if not isinstance(folder, Path):  # no command takes an experiment from S3
        return command(COMMANDS[planned["goal"]], f"{planned['name']}.yaml")
    file = folder / layout.CONFIG
    return command(COMMANDS[planned["goal"]], file, *_storage(root, file))


def _storage(root: Place, file: Path) -> list[str]:
    """The option that names the store, where the sweep's own file does not mean this one, as in a
    copy."""
    from orchestrator.settings import yaml_reader

    said = yaml_reader.load_text(file.read_text(), str(file)).get("storage", "runs")
    return [] if place_of(said).absolute() == root else ["--set", f"storage={root}"]
