"""Tensors as safetensors, with their numbers as JSON; a damaged file is found by its
checksum."""

import hashlib
import json
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from kaccore.files import CorruptFileError, file_sha256, write_bytes, write_json


def write_tensors(path: Path, tensors: dict[str, Tensor]) -> str:
    """Named tensors as safetensors; returns the file's sha256."""
    return write_bytes(path, save({k: v.detach().cpu().contiguous() for k, v in tensors.items()}))


def read_tensors(path: Path, sha256: str | None = None) -> dict[str, Tensor]:
    """Named tensors of a safetensors file; raises CorruptFileError where it is damaged or not the
    one meant."""
    if sha256 is not None and (found := file_sha256(path)) != sha256:
        raise CorruptFileError(f"{path}: sha256 is {found[:12]}..., expected {sha256[:12]}...")
    try:
        return load_file(path)
    except SafetensorError as e:
        raise CorruptFileError(f"{path}: not a whole safetensors file ({e})") from None


def save_checkpoint(folder: Path, tensors: dict[str, Tensor], numbers: dict[str, Any]) -> Path:
    """A training state as `step-<n>.safetensors` with its `step-<n>.json`, which is written last
    and holds the checksums of the tensors and of its own numbers: a checkpoint is there when its
    JSON is. Returns the JSON's path."""
    folder.mkdir(parents=True, exist_ok=True)
    stem = folder / f"step-{numbers['step']:08d}"
    digest = write_tensors(stem.with_suffix(".safetensors"), tensors)
    numbers = {**numbers, "sha256": digest}
    write_json(stem.with_suffix(".json"), {**numbers, "numbers_sha256": _numbers_sha256(numbers)})
    return stem.with_suffix(".json")


def load_checkpoint(described: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The state whose JSON is `described`; raises CorruptFileError where either file is damaged."""
    try:
        numbers = json.loads(described.read_text(encoding="utf-8"))
        own_digest = numbers.pop("numbers_sha256")
        if _numbers_sha256(numbers) != own_digest:
            raise ValueError("its numbers are not those that were written")
        digest = numbers.pop("sha256")
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as e:
        raise CorruptFileError(f"{described}: {e}") from None
    tensors = described.with_suffix(".safetensors")
    if not tensors.exists():
        raise CorruptFileError(f"{tensors} is missing")
    return read_tensors(tensors, digest), numbers


def _numbers_sha256(numbers: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(numbers).encode()).hexdigest()
