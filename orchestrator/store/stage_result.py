"""The result of a finished stage: its folder, its manifest, and its files, whose checksums every
read compares."""

import hashlib
import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kaccore.files import CorruptFileError, file_sha256
from orchestrator.store.layout import MANIFEST
from orchestrator.store.place import Place

if TYPE_CHECKING:  # saves a waiting coordinator torch's half gigabyte of memory
    from torch import Tensor


class DamagedError(CorruptFileError):
    """Finished results in the store at `root` differ from what was written; `problems` has a
    message for each key."""

    def __init__(self, root: str, problems: dict[str, str]) -> None:
        self.root, self.problems = root, problems
        lines = [f"{root}/stages/{key}: {problem}" for key, problem in problems.items()]
        super().__init__("\n".join(lines))

    def __reduce__(self) -> tuple[type["DamagedError"], tuple[str, dict[str, str]]]:
        # to pickle it from a worker to its coordinator
        return DamagedError, (self.root, self.problems)


@dataclass(frozen=True)
class Result:
    """The result of a finished stage. Every method that reads a file compares its checksum; it
    raises DamagedError where the file differs from what was written, and FileNotFoundError where
    the result has no such file."""

    folder: Place

    @cached_property
    def manifest(self) -> dict[str, Any]:
        """The manifest; raises DamagedError where it cannot be read."""
        try:
            manifest = json.loads((self.folder / MANIFEST).read_text())
            complete = {"kind", "label", "seconds", "finished"} <= manifest.keys()
            for file in manifest["files"].values():
                complete = complete and {"sha256", "bytes"} <= file.keys()
            if not complete:
                raise ValueError("it lacks required keys")
        except FileNotFoundError:
            raise self._damaged(f"{MANIFEST} is missing") from None
        except (ValueError, KeyError, TypeError, AttributeError) as e:
            raise self._damaged(f"{MANIFEST} is damaged ({e})") from None
        return manifest

    def file(self, name: str) -> Place:
        """The place of the file `name` of this result, which need not exist."""
        return self.folder / self.manifest.get("at", "") / name

    def has(self, name: str) -> bool:
        """Whether the result has the file `name`."""
        return name in self.manifest["files"]

    def sizes(self) -> dict[str, list[int]]:
        """The bytes of each file, and when it was written, in nanoseconds since 1970; raises
        DamagedError where one is missing or has another size than was written."""
        states = (self.folder / self.manifest.get("at", "")).listing()
        for name, written in self.manifest["files"].items():
            if name not in states:
                raise self._damaged(f"{name} is missing")
            size, expected = states[name][0], written["bytes"]
            if size != expected:
                raise self._damaged(f"{name} is damaged (it has {size} bytes, expected {expected})")
        return {name: list(states[name]) for name in self.manifest["files"]}

    def path(self, name: str) -> Path:
        """The path on this machine of a file of this result, its checksum verified; or of its
        manifest, which has no checksum."""
        if name == MANIFEST:
            return (self.folder / MANIFEST).local()
        file, sha256 = self.file(name), self._sha256(name)
        try:
            if file_sha256(file.local()) == sha256:
                return file.local()
            # on S3 perhaps only the cached copy is damaged
            if file_sha256(file.local(refresh=True)) == sha256:
                return file.local()
        except FileNotFoundError:
            raise self._damaged(f"{name} is missing") from None
        raise self._damaged(f"{name} is damaged (its sha256 differs)")

    def content(self, name: str) -> bytes:
        """The content of a small file of this result, its checksum verified."""
        sha256 = self._sha256(name)
        try:
            data = self.file(name).read_bytes()
        except FileNotFoundError:
            raise self._damaged(f"{name} is missing") from None
        if hashlib.sha256(data).hexdigest() != sha256:
            raise self._damaged(f"{name} is damaged (its sha256 differs)")
        return data

    def tensors(self, name: str) -> dict[str, "Tensor"]:
        """The tensors of a safetensors file of this result."""
        from kaccore.checkpoint import read_tensors

        return read_tensors(self.path(name))

    def json(self, name: str) -> Any:
        """A JSON file of this result."""
        return json.loads(self.content(name))

    def _sha256(self, name: str) -> str:
        if not self.has(name):
            raise FileNotFoundError(f"{self.folder} has no {name}")
        return str(self.manifest["files"][name]["sha256"])

    def _damaged(self, what: str) -> DamagedError:
        return DamagedError(str(self.folder.parents[1]), {self.folder.name: what})
