"""The store: from the content key of a stage to the folder with its result. It is the source of
truth; MLflow and reports are views.

    stages/<key>/    manifest.json (kind, key, parents, config, files with sha256, seconds, what made it) and the
                     stage's files
    work/<key>/      files of an unfinished stage: checkpoints, losses so far, leases, the last failure
    publishing/      leases: one process at a time publishes an experiment to MLflow
    labels/          <fingerprint>.json: the labels of a data set, so that sampling does not need its files
    layout.json      the version of this layout
    notices/<key>/   warnings about a stage: see `notices`
    damaged/<key>-<n>/   a damaged result that was set aside: see `integrity`
    verified.json    the files of results whose checksums were compared
    families/<key>/  <steps>-<key> of each finished stage whose final state a longer training can resume from

A result is committed atomically, so a reader sees all of it or nothing: in a folder by a rename; on
S3 by a manifest that is written last and names in `at` the prefix of the files."""

import errno
import json
import time
import zlib
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from kaccore.files import CorruptFileError, file_sha256
from orchestrator.plan.data import DatasetInfo, pack_labels, unpack_labels
from orchestrator.plan.stage import TRAINING, Stage
from orchestrator.store import layout, notices
from orchestrator.store.layout import MANIFEST
from orchestrator.store.place import Place, StorageError, StorageRefusedError
from orchestrator.store.places import Where, place_of
from orchestrator.store.provenance import made_by
from orchestrator.store.stage_result import Result

LAYOUT = 1  # raise it when a change of folders or files would mislead an older version


class Store:
    """The results below `root`, the experiment's `storage`, which all nodes of a cluster share."""

    def __init__(self, root: Where) -> None:
        self.root = place_of(root).absolute()

    def layout(self) -> int:
        """The version of the store's layout; this version's own where there is no store yet."""
        try:
            return int(json.loads((self.root / layout.LAYOUT).read_text())["layout"])
        except FileNotFoundError:
            return LAYOUT

    def open(self) -> None:
        """Create the store's folder with layout.json."""
        self.root.mkdir(parents=True, exist_ok=True)
        if not (self.root / layout.LAYOUT).exists():
            (self.root / layout.LAYOUT).put_json({"layout": LAYOUT})

    def keep_labels(self, info: DatasetInfo) -> None:
        """Keep the labels of a data set, if it has any and they are not kept yet."""
        if info.labels is not None and not self._labels(info).exists():
            (self.root / layout.LABELS).mkdir(parents=True, exist_ok=True)
            self._labels(info).put(pack_labels(info.labels).encode())

    def with_labels(self, info: DatasetInfo) -> DatasetInfo:
        """`info` with the labels that the store keeps of it; `info` itself where there are none."""
        try:
            return replace(info, labels=unpack_labels(self._labels(info).read_text()))
        except FileNotFoundError:
            return info
        except (ValueError, KeyError, zlib.error) as e:
            remedy = "remove it and run the sweep again"
            raise CorruptFileError(f"{self._labels(info)}: {e}; {remedy}") from None

    def _labels(self, info: DatasetInfo) -> Place:
        return self.root / layout.LABELS / f"{info.fingerprint[:20]}.json"

    def done(self, key: str) -> bool:
        """Whether the store has a finished result of `key`."""
        return (self.root / layout.STAGES / key / MANIFEST).exists()

    def done_uncached(self, key: str) -> bool:
        """`done`, never from a cache of this machine; costs more."""
        return (self.root / layout.STAGES / key).committed(MANIFEST)

    def result(self, key: str) -> Result:
        """The finished result of `key`; raises KeyError where there is none."""
        if not self.done(key):
            raise KeyError(f"{self.root}: no finished stage {key}")
        return Result(self.root / layout.STAGES / key)

    def progress(self, key: str) -> dict[str, Any] | None:
        """The latest progress of the unfinished stage `key`; None where there is none."""
        return self._work_file(key, layout.PROGRESS)

    def seconds(self, key: str) -> float:
        """The seconds of work on stage `key`, by its manifest or its latest progress."""
        with suppress(CorruptFileError):
            if self.done(key):
                return float(self.result(key).manifest["seconds"])
        return (self.progress(key) or {}).get("seconds", 0.0)

    def workers(self, key: str, most: int) -> float:
        """The mean number of workers that made the result of stage `key` in its seconds; `most` where the store does
        not know it: of an unfinished stage, and of a result of an earlier version."""
        with suppress(CorruptFileError):
            if self.done(key):
                return float(self.result(key).manifest.get("workers", most))
        return float(most)

    def work(self, key: str) -> Place:
        """The work folder of the unfinished stage `key`, created where it is missing."""
        folder = self.root / layout.WORK / key
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def reached(self, stages: Sequence[Stage]) -> tuple[int, int, str]:
        """How far the chain of `stages` has saved its work, as a value that grows: finished stages,
        parts of pairs, and the newest checkpoint of the first unfinished stage."""
        unfinished = [stage.key for stage in stages if not self.done(stage.key)]
        if not unfinished:
            return len(stages), 0, ""
        folder = self.root / layout.WORK / unfinished[0]
        parts = len(list((folder / layout.PARTS).find("*")))
        saved = [path.name for path in (folder / layout.CHECKPOINTS).find("step-*.json")]
        return len(stages) - len(unfinished), parts, max(saved, default="")

    def gather(self, stage: Stage) -> Path:
        """An empty folder for the files of `stage`'s result, for `publish`."""
        return self.work(stage.key).draft()

    def publish(
        self,
        stage: Stage,
        gathered: Path,
        seconds: float,
        data: dict[str, int] | None = None,
        workers: float | None = None,
    ) -> Result:
        """Make the folder `gathered` the result of `stage` atomically, and remove its work folder.
        For the manifest: `data`, the sizes of its data, and `workers`, the mean number of workers in
        these `seconds`.

        If another process was faster, its result stays: equal keys mean equal results.
        """
        target = self.root / layout.STAGES / stage.key
        manifest = _manifest(stage, gathered, seconds)
        if data is not None:
            manifest["data"] = data
        if workers is not None:
            manifest["workers"] = round(workers, 3)
        try:
            target.commit(gathered, MANIFEST, manifest)
        except OSError as e:
            if not self.done(stage.key):  # or else another process was faster
                if e.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                    raise
                # a commit is atomic, so the manifest of these files was removed later
                self.set_aside(stage, f"{MANIFEST} is missing")
                target.commit(gathered, MANIFEST, manifest)
        self.discard_work(stage.key)
        return Result(target)

    def remove(self, key: str) -> None:
        """Remove the finished result of `key`, and the warnings about it."""
        removed = self.root / layout.WORK / f"removed-{key}"
        (self.root / layout.STAGES / key).withdraw(MANIFEST, removed)
        for entry in (self.root / layout.FAMILIES).find(f"*/*-{key}"):
            entry.unlink()
        notices.forget(self.root, key)

    def set_aside(self, stage: Stage, problem: str) -> str:
        """Move the damaged result of `stage` to `damaged/`, where no reader looks, and warn of it.
        Returns the warning, empty where another process has done it. The caller holds the stage's
        lease."""
        folder = self.root / layout.DAMAGED
        numbers = [int(p.name.rpartition("-")[2]) for p in folder.find(f"{stage.key}-*")]
        target = folder / f"{stage.key}-{max(numbers, default=0) + 1}"
        try:
            (self.root / layout.STAGES / stage.key).withdraw(MANIFEST, target, keep=True)
        except FileNotFoundError:
            return ""
        verb = "trained" if stage.kind in TRAINING else "computed"
        message = f"{problem}: set aside as damaged/{target.name}, it is {verb} again"
        self.warn(stage, message)
        return f"{stage.label} {stage.key}: {message}"

    def lost_keys(self) -> set[str]:
        """The keys of results that were set aside as damaged and have no new result yet."""
        keys = {p.name.rpartition("-")[0] for p in (self.root / layout.DAMAGED).find("*")}
        return {key for key in keys if not self.done(key)}

    def note_family(self, stage: Stage) -> None:
        """Register `stage`'s result as one from which longer trainings of its family can resume."""
        folder = self.root / layout.FAMILIES / str(stage.family)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{stage.steps}-{stage.key}").create(b"")

    def family(self, stage: Stage) -> list[tuple[int, str]]:
        """(steps, key) of the finished stages of `stage`'s family, by steps."""
        if stage.family is None:
            return []
        entries = (self.root / layout.FAMILIES / stage.family).find("*-*")
        members = [entry.name.split("-") for entry in entries]
        return sorted((int(steps), key) for steps, key in members if self.done(key))

    def discard_work(self, key: str) -> None:
        """Remove the work folder of a finished stage."""
        (self.root / layout.WORK / key).clear()

    def warn(self, stage: Stage, text: str) -> None:
        """Print the warning `text` about `stage`, and keep it, once, for the view, the report and
        `status`. Raises nothing."""
        notices.print_and_keep(self.root, stage, text)

    def write_failure(self, stage: Stage, failure: dict[str, Any]) -> None:
        """Write why `stage` failed, for the coordinator and for trials that wait for it."""
        (self.work(stage.key) / layout.FAILURE).put_json(failure)

    def failure(self, stage: Stage) -> dict[str, Any] | None:
        """Why the latest attempt at `stage` failed; None where it did not."""
        return self._work_file(stage.key, layout.FAILURE)

    def clear_failure(self, stage: Stage) -> None:
        """Remove an earlier failure before another attempt."""
        (self.root / layout.WORK / stage.key / layout.FAILURE).unlink(missing_ok=True)

    def _work_file(self, key: str, name: str) -> dict[str, Any] | None:
        """The JSON file `name` in the work folder of the unfinished stage `key`; None where there
        is none."""
        try:
            return json.loads((self.root / layout.WORK / key / name).read_text())
        except (OSError, ValueError):
            return None


def storage_refuses(error: BaseException) -> bool:
    """Whether the storage refuses, such as a full or read-only disk, so that a retry is of no
    use."""
    if isinstance(error, StorageRefusedError):
        return True
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS)


def with_remedy(error: OSError) -> str:
    """The message of `error` with a remedy."""
    if isinstance(error, StorageError):
        return str(error)
    return f"{error}: make room or make it writable"


def _manifest(stage: Stage, gathered: Path, seconds: float) -> dict[str, Any]:
    files = {
        path.name: {"sha256": file_sha256(path), "bytes": path.stat().st_size}
        for path in sorted(gathered.iterdir())
        if path.name != MANIFEST
    }
    return {
        "kind": stage.kind,
        "key": stage.key,
        "label": stage.label,
        "parents": [parent.key for parent in stage.parents],
        "config": stage.content,
        "files": files,
        "seconds": round(seconds, 3),
        "finished": time.time(),
        "made_by": made_by(),
    }
