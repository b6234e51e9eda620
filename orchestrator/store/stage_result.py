"""A finished stage as readers see it: its folder, what its manifest says, and files whose checksums
are compared."""

import hashlib
import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kaccore.files import CorruptFileError, file_sha256
from orchestrator.store.layout import MANIFEST
from orchestrator.store.place import Place

if TYPE_CHECKING:  # a coordinator that waits does not need torch's half a gigabyte
    from torch import Tensor


class DamagedError(CorruptFileError):
    """Finished results in the store at `root` are not what was written: by their keys, `found` says
    what is wrong."""

    def __init__(self, root: str, found: dict[str, str]) -> None:
        self.root, self.found = root, found
        super().__init__("\n".join(f"{root}/stages/{key}: {what}" for key, what in found.items()))

    def __reduce__(self) -> tuple[type["DamagedError"], tuple[str, dict[str, str]]]:
        return DamagedError, (
            self.root,
            self.found,
        )  # a worker raises it, and a coordinator reads it


@dataclass(frozen=True)
class Result:
    """A finished stage: its folder and what its manifest says. Whatever reads a file compares its
    checksum and raises DamagedError where the file is not what was written, and FileNotFoundError
    where the result has no such file."""

    folder: Place

    @cached_property
    def manifest(self) -> dict[str, Any]:
        """The manifest; raises DamagedError where it cannot be read."""
        try:
            said = json.loads((self.folder / MANIFEST).read_text())
            whole = all({"sha256", "bytes"} <= each.keys() for each in said["files"].values())
            if not whole or not {"kind", "label", "seconds", "finished"} <= said.keys():
                raise ValueError("it lacks what every manifest has")
        except FileNotFoundError:
            raise self._damaged(f"{MANIFEST} is missing") from None
        except (ValueError, KeyError, TypeError, AttributeError) as e:
            raise self._damaged(f"{MANIFEST} is damaged ({e})") from None
        return said

    def file(self, name: str) -> Place:
        """Where the file `name` of this result lies, which it may not have."""
        return self.folder / self.manifest.get("at", "") / name

    def has(self, name: str) -> bool:
        """Whether the result was written with such a file."""
        return name in self.manifest["files"]

    def sizes(self) -> dict[str, list[int]]:
        """The bytes of each file, and when it was written in nanoseconds; raises DamagedError where
        one is missing or has another size than was written."""
        there = (self.folder / self.manifest.get("at", "")).listing()
        for name, said in self.manifest["files"].items():
            if name not in there:
                raise self._damaged(f"{name} is missing")
            if there[name][0] != said["bytes"]:
                raise self._damaged(
                    f"{name} is damaged (it has {there[name][0]} bytes, expected {said['bytes']})"
                )
        return {name: list(there[name]) for name in self.manifest["files"]}

    def path(self, name: str) -> Path:
        """A file of this result on this machine, its checksum verified; or its manifest, which has
        none."""
        if name == MANIFEST:
            return (self.folder / MANIFEST).local()
        file, sha256 = self.file(name), self._sha256(name)
        try:
            # on S3 it may be the copy on this machine that is damaged
            if file_sha256(file.local()) == sha256 or file_sha256(file.local(anew=True)) == sha256:
                return file.local()
        except FileNotFoundError:
            raise self._damaged(f"{name} is missing") from None
        raise self._damaged(f"{name} is damaged (its sha256 differs)")

    def content(self, name: str) -> bytes:
        """The bytes of a small file of this result, their checksum verified."""
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
