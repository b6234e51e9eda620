"""An exported sampler as a function, whatever the format of its file."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from kaccore.export import onnx_file
from kaccore.export.portable import METADATA, Sampler, from_safetensors, quietly

ARCHIVE = b"PK\x03\x04"  # how a zip file begins
Run = Callable[[Sequence[Tensor]], Tensor]


@dataclass(frozen=True)
class Exported:
    """`run`: [noise (N, C, H, W), and labels (N,) if it takes any] -> images (N, C, H, W), on the
    CPU. `about`: the metadata. `sampler`: the modules, which a file of weights alone gives."""

    format: str
    about: dict[str, Any]
    run: Run
    sampler: Sampler | None = None


def format_of(file: Path) -> str | None:
    """onnx, torchscript or safetensors, by what the file has; None if it is no exported sampler, or
    so damaged that nothing shows it."""
    content = file.read_bytes()
    if METADATA.encode() not in content:
        return None
    if content.startswith(ARCHIVE):
        return "torchscript"
    return "safetensors" if content[8:9] == b"{" else "onnx"  # after the length of its JSON header


def open_exported(file: Path) -> Exported:
    """The sampler in `file`, which `format_of` knows. Raises ValueError for a network that is not
    kaccore's in a file of weights, ImportError without onnxruntime for ONNX, and what the format's
    own reader raises for a damaged file."""
    form = format_of(file)
    if form == "safetensors":
        sampler, about = from_safetensors(file)
        return Exported(form, about, lambda inputs: sampler(*inputs), sampler)
    if form == "torchscript":
        extra = {METADATA: ""}
        with quietly():
            module = torch.jit.load(str(file), map_location="cpu", _extra_files=extra)
        return Exported(form, json.loads(extra[METADATA]), _quiet(module))
    if form == "onnx":
        run, text = onnx_file.open_onnx(file)
        return Exported(form, json.loads(text), run)
    raise ValueError(f"{file}: not a file of python -m orchestrator.export, or damaged")


def _quiet(module: Any) -> Run:
    def run(inputs: Sequence[Tensor]) -> Tensor:
        with quietly(), torch.no_grad():
            return module(*inputs)

    return run
