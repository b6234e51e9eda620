"""The store: the content key of a stage -> the folder with its result. It is the truth; MLflow and
reports are views.

    stages/<key>/    manifest.json (kind, key, parents, config, files with sha256, seconds, what made it) and the
                     stage's files
    work/<key>/      what an unfinished stage keeps: checkpoints, losses so far, leases, the last failure
    publishing/      leases: one process at a time publishes an experiment to MLflow
    labels/          <fingerprint>.json: the labels of a data set, so that samples can be drawn without its files
    layout.json      the version of this layout
    notices/<key>/   warnings about a stage, for whoever watches: see `notices`
    damaged/<key>-<n>/   a result whose files were not what was written, set aside: see `integrity`
    verified.json    the files of results that were compared with their checksums
    families/<key>/  <steps>-<key> of each finished stage from whose end a longer training can go on

A result is gathered aside and put in place as a whole, so a reader sees all of it or nothing: in a
folder by a rename, on S3 by a manifest that is written last and says in `at` below what name the
files lie."""

import errno
import json
import time
import zlib
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

LAYOUT = 1  # raise it when folders or files change so that an older version would misread them


class Store:
    """The results under `root` (the experiment's `storage`); every node of a cluster must see the
    same place."""

    def __init__(self, root: Where) -> None:
        self.root = place_of(root).absolute()

    def layout(self) -> int:
        """The version of the layout that the store was written with; this version's own where there
        is none yet."""
        try:
            return int(json.loads((self.root / layout.LAYOUT).read_text())["layout"])
        except FileNotFoundError:
            return LAYOUT

    def open(self) -> None:
        """Make the store's folder and note its layout."""
        self.root.mkdir(parents=True, exist_ok=True)
        if not (self.root / layout.LAYOUT).exists():
            (self.root / layout.LAYOUT).put_json({"layout": LAYOUT})

    def keep_labels(self, info: DatasetInfo) -> None:
        """Keep the labels of a data set, if it has any and they are not kept yet."""
        if info.labels is not None and not self._labels(info).exists():
            (self.root / layout.LABELS).mkdir(parents=True, exist_ok=True)
            self._labels(info).put(pack_labels(info.labels).encode())

    def with_labels(self, info: DatasetInfo) -> DatasetInfo:
        """`info` with the labels that were kept of it; as it is where none were."""
        try:
            return replace(info, labels=unpack_labels(self._labels(info).read_text()))
        except FileNotFoundError:
            return info
        except (ValueError, KeyError, zlib.error) as e:
            raise CorruptFileError(
                f"{self._labels(info)}: {e}; remove it and run the sweep again"
            ) from None

    def _labels(self, info: DatasetInfo) -> Place:
        return self.root / layout.LABELS / f"{info.fingerprint[:20]}.json"

    def done(self, key: str) -> bool:
        """Whether a finished result of `key` is there."""
        return (self.root / layout.STAGES / key / MANIFEST).exists()

    def surely_done(self, key: str) -> bool:
        """`done`, asked in a way that costs more and is never behind what other machines have
        written."""
        return (self.root / layout.STAGES / key).adopted(MANIFEST)

    def result(self, key: str) -> Result:
        """The finished result of `key`; raises KeyError where there is none."""
        if not self.done(key):
            raise KeyError(f"{self.root}: no finished stage {key}")
        return Result(self.root / layout.STAGES / key)

    def progress(self, key: str) -> dict[str, Any] | None:
        """How far the training of the unfinished stage `key` is; None where nobody has said so."""
        return self._left(key, layout.PROGRESS)

    def seconds(self, key: str) -> float:
        """How long stage `key` has been worked on, as far as is known."""
        with suppress(CorruptFileError):
            if self.done(key):
                return float(self.result(key).manifest["seconds"])
        return (self.progress(key) or {}).get("seconds", 0.0)

    def work(self, key: str) -> Place:
        """The folder of the unfinished stage `key`, made where missing."""
        folder = self.root / layout.WORK / key
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def gather(self, stage: Stage) -> Path:
        """An empty folder in which the files of `stage`'s result are gathered before `publish`."""
        return self.work(stage.key).draft()

    def publish(
        self, stage: Stage, gathered: Path, seconds: float, data: dict[str, int] | None = None
    ) -> Result:
        """Make `gathered` the result of `stage` in one step; the unfinished work is removed.
        `data`: the sizes of the data it was made of, for its manifest.

        Where another process was faster its result stays: equal keys mean equal results.
        """
        target = self.root / layout.STAGES / stage.key
        try:
            target.adopt(gathered, MANIFEST, _manifest(stage, gathered, seconds, data))
        except OSError as e:  # the faster one's result is there, and it has removed the work folder
            if not self.done(stage.key):
                if e.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                    raise
                self.set_aside(
                    stage, f"{MANIFEST} is missing"
                )  # results come whole: somebody has removed it
                target.adopt(gathered, MANIFEST, _manifest(stage, gathered, seconds, data))
        self.discard_work(stage.key)
        return Result(target)

    def remove(self, key: str) -> None:
        """Remove the finished result of `key`, and the warnings about it."""
        (self.root / layout.STAGES / key).withdraw(
            MANIFEST, self.root / layout.WORK / f"removed-{key}"
        )
        for noted in (self.root / layout.FAMILIES).find(f"*/*-{key}"):
            noted.unlink()
        notices.forget(self.root, key)

    def set_aside(self, stage: Stage, what: str) -> str:
        """Move the damaged result of `stage` to where no reader looks, and warn of it. What was
        done, in words; empty where another process has done it. The caller holds the stage's
        lease."""
        folder = self.root / layout.DAMAGED
        numbers = [int(p.name.rpartition("-")[2]) for p in folder.find(f"{stage.key}-*")]
        aside = folder / f"{stage.key}-{max(numbers, default=0) + 1}"
        try:
            (self.root / layout.STAGES / stage.key).withdraw(MANIFEST, aside, keep=True)
        except FileNotFoundError:
            return ""
        made = "trained" if stage.kind in TRAINING else "computed"
        said = f"{what}: set aside as damaged/{aside.name}, it is {made} again"
        self.warn(stage, said)
        return f"{stage.label} {stage.key}: {said}"

    def lost(self) -> set[str]:
        """The keys of results that were set aside as damaged and have not been made again."""
        keys = {p.name.rpartition("-")[0] for p in (self.root / layout.DAMAGED).find("*")}
        return {key for key in keys if not self.done(key)}

    def note_family(self, stage: Stage) -> None:
        """Note that longer trainings of `stage`'s family can go on from its result."""
        folder = self.root / layout.FAMILIES / str(stage.family)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{stage.steps}-{stage.key}").create(b"")

    def family(self, stage: Stage) -> list[tuple[int, str]]:
        """(steps, key) of the finished stages of `stage`'s family, by steps."""
        if stage.family is None:
            return []
        noted = [
            p.name.split("-") for p in (self.root / layout.FAMILIES / stage.family).find("*-*")
        ]
        return sorted((int(steps), key) for steps, key in noted if self.done(key))

    def discard_work(self, key: str) -> None:
        """Remove what a finished stage left in its work folder."""
        (self.root / layout.WORK / key).clear()

    def warn(self, stage: Stage, text: str) -> None:
        """Print the warning `text` about `stage`, and keep it for the view, the report and
        `status`: once, and never an error."""
        notices.tell(self.root, stage, text)

    def write_failure(self, stage: Stage, failure: dict[str, Any]) -> None:
        """Leave why `stage` failed, for the coordinator and for trials that wait for it."""
        (self.work(stage.key) / layout.FAILURE).put_json(failure)

    def failure(self, stage: Stage) -> dict[str, Any] | None:
        """Why `stage` failed last, if it did."""
        return self._left(stage.key, layout.FAILURE)

    def clear_failure(self, stage: Stage) -> None:
        """Forget an earlier failure before trying again."""
        (self.root / layout.WORK / stage.key / layout.FAILURE).unlink(missing_ok=True)

    def _left(self, key: str, name: str) -> dict[str, Any] | None:
        """What was left as `name` for others in the work folder of the unfinished stage `key`."""
        try:
            return json.loads((self.root / layout.WORK / key / name).read_text())
        except (OSError, ValueError):
            return None


def disk_refuses(error: BaseException) -> bool:
    """Whether `error` says that the storage refuses, as a full or read-only disk: no use in trying
    again at once."""
    if isinstance(error, StorageRefusedError):
        return True
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS)


def with_remedy(error: OSError) -> str:
    """What `error` says, and what to do about it."""
    return (
        str(error) if isinstance(error, StorageError) else f"{error}: make room or make it writable"
    )


def _manifest(
    stage: Stage, gathered: Path, seconds: float, data: dict[str, int] | None
) -> dict[str, Any]:
    files = {
        p.name: {"sha256": file_sha256(p), "bytes": p.stat().st_size}
        for p in sorted(gathered.iterdir())
        if p.name != MANIFEST
    }
    return {
        "kind": stage.kind,
        "key": stage.key,
        "label": stage.label,
        "parents": [p.key for p in stage.parents],
        "config": stage.content,
        "files": files,
        "seconds": round(seconds, 3),
        "finished": time.time(),
        "made_by": made_by(),
        **({} if data is None else {"data": data}),
    }
