"""Warnings about stages. The output of Ray's workers is not shown, so warnings go through the
store.

    notices/<stage key>/<digest of the text>.json     text, label, host, time

They outlast the stage's work folder and are removed with the stage.
"""

import hashlib
import json
import socket
import sys
import time
import warnings
from collections.abc import Container, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from orchestrator.plan.data import WARNING
from orchestrator.plan.stage import Stage
from orchestrator.store import layout
from orchestrator.store.place import Place

if TYPE_CHECKING:
    from orchestrator.plan.plan import Plan

OURS = ("kaccore", "orchestrator")
SHOWN = 20  # how many warnings are printed


class Notice(NamedTuple):
    """A warning about the stage `key` with this `label`, given on `host` at `time`, in seconds
    since 1970. A warning about data has neither host nor time."""

    key: str
    label: str
    text: str
    host: str
    time: float

    def __str__(self) -> str:
        return f"{self.label}: {self.text}" if self.label else self.text


def keep(root: Place, stage: Stage, text: str) -> None:
    """Write the warning `text` about `stage` into the store at `root`; the same text again changes
    nothing. Raises nothing: on a full disk or without the storage a warning must not become a
    failure."""
    text = _one_line(text)
    notice = {"text": text, "label": stage.label, "host": socket.gethostname(), "time": time.time()}
    digest = hashlib.sha256(text.encode()).hexdigest()[:16]
    place = root / layout.NOTICES / stage.key / f"{digest}.json"
    with suppress(OSError):
        if not place.exists():
            place.parent.mkdir(parents=True, exist_ok=True)
            # atomic, also on a full disk; if several processes write, one file stays
            place.put_fast(json.dumps(notice).encode())


class Notices:
    """Reads the warnings in the store at `root`, each file once."""

    def __init__(self, root: Place) -> None:
        self._folder = root / layout.NOTICES
        self._read: dict[str, Notice] = {}

    def of(self, keys: Container[str]) -> list[Notice]:
        """The warnings about the stages `keys`, the oldest first."""
        for place in self._folder.find("*/*.json"):
            if str(place) not in self._read and place.parent.name in keys:
                # a notice that was removed or is damaged is ignored
                with suppress(OSError, ValueError, KeyError, TypeError):
                    self._read[str(place)] = _read(place)
        selected = [notice for notice in self._read.values() if notice.key in keys]
        return sorted(selected, key=lambda notice: (notice.time, notice.text))


def _read(place: Place) -> Notice:
    content = json.loads(place.read_text())
    return Notice(
        key=place.parent.name,
        label=str(content["label"]),
        text=str(content["text"]),
        host=str(content["host"]),
        time=float(content["time"]),
    )


def about(root: Place, stages: Iterable[Stage]) -> list[Notice]:
    """The warnings about `stages` in the store at `root`, the oldest first."""
    return Notices(root).of({stage.key for stage in stages})


def of_plan(plan: "Plan", root: Place) -> list[Notice]:
    """The warnings about the data of `plan`, and about its stages in the store at `root`, the
    oldest first."""
    data = [
        Notice(info.fingerprint, info.name, note.removeprefix(WARNING), "", 0.0)
        for info in plan.datasets()
        for note in info.notes
        if note.startswith(WARNING)
    ]
    return [*dict.fromkeys(data), *about(root, plan.stages())]


def lines(notices: Iterable[Notice], limit: int = SHOWN) -> list[str]:
    """How many warnings there are, and the last `limit` of them, one a line; empty where there are
    none."""
    texts = [str(notice) for notice in notices]
    if not texts:
        return []
    heading = "1 warning" if len(texts) == 1 else f"{len(texts)} warnings"
    if len(texts) > limit:
        heading += f", the last {limit}"
    return [f"{heading}:", *(f"  {text}" for text in texts[-limit:])]


def forget(root: Place, key: str) -> None:
    """Remove the warnings about the stage `key`."""
    (root / layout.NOTICES / key).clear()


@contextmanager
def captured(root: Place, stage: Stage) -> Iterator[None]:
    """While the context is open, Python warnings from this project's code are also kept as warnings
    about `stage`. Each is given once for a stage, even if this process has given it for another
    stage before."""
    with warnings.catch_warnings():
        warnings.filterwarnings("default", module=rf"({'|'.join(OURS)})(\.|$)")
        show = warnings.showwarning

        def show_and_keep(
            message: Any, category: Any, filename: str, *where: Any, **more: Any
        ) -> None:
            show(message, category, filename, *where, **more)
            if _is_ours(filename):
                keep(root, stage, str(message))

        warnings.showwarning = show_and_keep
        yield


def print_and_keep(root: Place, stage: Stage, text: str) -> None:
    """Print a warning about `stage` and `keep` it."""
    print(f"warning: {stage.label}: {_one_line(text)}", file=sys.stderr, flush=True)
    keep(root, stage, text)


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _is_ours(filename: str) -> bool:
    root, path = Path(__file__).parents[2], Path(filename)
    return path.is_relative_to(root) and path.relative_to(root).parts[0] in OURS
