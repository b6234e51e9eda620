"""Warnings about stages. Ray's workers print where nobody looks, so a warning travels through the
store.

    notices/<stage key>/<digest of the text>.json     text, label, host, time

They outlive the stage's work folder, and go when the stage is removed.
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
SHOWN = 20  # of a list of warnings that is printed


class Notice(NamedTuple):
    """A warning about the stage `key`, called `label`, that `host` gave at `time`, in seconds since
    1970. One about data has neither host nor time."""

    key: str
    label: str
    text: str
    host: str
    time: float

    def __str__(self) -> str:
        return f"{self.label}: {self.text}" if self.label else self.text


def keep(root: Place, stage: Stage, text: str) -> None:
    """Keep the warning `text` about `stage` in the store at `root`, once however often it is given.
    Never an error: a disk that is full, or a store out of reach, must not turn a warning into a
    failure."""
    text = _one_line(text)
    notice = {"text": text, "label": stage.label, "host": socket.gethostname(), "time": time.time()}
    place = (
        root / layout.NOTICES / stage.key / f"{hashlib.sha256(text.encode()).hexdigest()[:16]}.json"
    )
    with suppress(OSError):
        if not place.exists():
            place.parent.mkdir(parents=True, exist_ok=True)
            place.note(
                json.dumps(notice).encode()
            )  # all of it or nothing, also on a full disk; one of several stays


class Notices:
    """Reads the warnings in the store at `root`, each file once."""

    def __init__(self, root: Place) -> None:
        self._folder = root / layout.NOTICES
        self._read: dict[str, Notice] = {}

    def of(self, keys: Container[str]) -> list[Notice]:
        """The warnings about the stages `keys`, the oldest first."""
        for place in self._folder.find("*/*.json"):
            if str(place) not in self._read and place.parent.name in keys:
                with suppress(
                    OSError, ValueError, KeyError, TypeError
                ):  # removed, or damaged: it warns of nothing
                    said = json.loads(place.read_text())
                    self._read[str(place)] = Notice(
                        place.parent.name,
                        str(said["label"]),
                        str(said["text"]),
                        str(said["host"]),
                        float(said["time"]),
                    )
        return sorted(
            (n for n in self._read.values() if n.key in keys), key=lambda n: (n.time, n.text)
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


def lines(found: Iterable[Notice], most: int = SHOWN) -> list[str]:
    """How many warnings there are, and the last few of them, a line each; nothing where there are
    none."""
    said = list(map(str, found))
    if not said:
        return []
    count = f"{len(said)} warning{'s' * (len(said) > 1)}"
    return [
        f"{count}:" if len(said) <= most else f"{count}, the last {most}:",
        *(f"  {text}" for text in said[-most:]),
    ]


def forget(root: Place, key: str) -> None:
    """Remove the warnings about the stage `key`."""
    (root / layout.NOTICES / key).clear()


@contextmanager
def heard(root: Place, stage: Stage) -> Iterator[None]:
    """While the context is open, Python warnings that code of this project gives are kept as
    warnings about `stage`, beside what Python does with them. Each is given once, also where this
    process has given it for another stage."""
    with warnings.catch_warnings():
        warnings.filterwarnings("default", module=rf"({'|'.join(OURS)})(\.|$)")
        show = warnings.showwarning

        def keep_too(message: Any, category: Any, filename: str, *where: Any, **more: Any) -> None:
            show(message, category, filename, *where, **more)
            if _ours(filename):
                keep(root, stage, str(message))

        warnings.showwarning = keep_too
        yield


def tell(root: Place, stage: Stage, text: str) -> None:
    """`keep` a warning and print it."""
    print(f"warning: {stage.label}: {_one_line(text)}", file=sys.stderr, flush=True)
    keep(root, stage, text)


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _ours(filename: str) -> bool:
    root, path = Path(__file__).parents[2], Path(filename)
    return path.is_relative_to(root) and path.relative_to(root).parts[0] in OURS
