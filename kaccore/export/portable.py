"""A few-step sampler as one module, and as a file that runs without this project.

    Sampler(noise (N, C, H, W), labels (N,)) -> images (N, C, H, W)        grid, solver and guidance are part of it

ONNX and TorchScript files contain the whole sampler, for any N; safetensors files contain the
weights. Each has one text, `METADATA`, about its inputs, its outputs and how to draw the noise."""

import contextlib
import io
import json
import logging
import warnings
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor, nn

from kaccore.guidance import GuidedVelocity
from kaccore.models import MLP, DiT, UNet
from kaccore.shaping import ShapedVelocity
from kaccore.solvers import SOLVERS, Velocity, check_times
from kaccore.tone import ToneCurve, tone_of, without_tone

METADATA = "kacflow.json"  # the name of the metadata text in each kind of file
TONE = "tone."  # prefix of the tone curve among the weights in a file
NETWORKS: dict[str, type[nn.Module]] = {"UNet": UNet, "DiT": DiT, "MLP": MLP}


class Sampler(nn.Module):
    """`sampler(noise, labels) -> images`: `network` integrated over the grid `times` (n+1,),
    decreasing from 1.

    `solver`, `guidance` and `shaping` as in `kaccore.sampling.sample`. `jumps`: the network also
    takes the time at which each step ends, as a consistency student does. `bounded` clamps the
    result to [-1, 1], for images. `tone`: the curve on which images end, None: that of a calibrated
    `network`, if it is one. Raises ValueError for an unknown solver or a grid that is not monotone."""

    def __init__(
        self, network: nn.Module, times: Tensor, *, solver: str = "euler", guidance: float = 1.0, shaping: float = 0.0,
        jumps: bool = False, bounded: bool = True, tone: ToneCurve | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        if solver not in SOLVERS:
            raise ValueError(f"solver = {solver!r}: expected one of {', '.join(SOLVERS)}")
        self.network = without_tone(network)
        self.tone = tone_of(network) if tone is None else tone
        self.solver = solver
        self.guidance = guidance
        self.shaping = shaping
        self.jumps, self.bounded = jumps, bounded
        self.times: Tensor
        self.register_buffer("times", check_times(times))

    def settings(self) -> dict[str, Any]:
        """The other arguments of its constructor, besides the network, the grid and the tone curve."""
        return {
            name: getattr(self, name)
            for name in ("solver", "guidance", "shaping", "jumps", "bounded")
        }

    def with_network(self, network: nn.Module) -> "Sampler":
        """The same sampler with another network."""
        return Sampler(network, self.times, tone=self.tone, **self.settings())

    def forward(self, noise: Tensor, labels: Tensor | None = None) -> Tensor:
        images = self._jump(noise, labels) if self.jumps else self._solve(noise, labels)
        if self.tone is not None:
            images = self.tone(images)
        return images.clamp(-1, 1) if self.bounded else images

    def _solve(self, x: Tensor, labels: Tensor | None) -> Tensor:
        velocity: Velocity = GuidedVelocity(self.network, labels, self.guidance)
        if self.shaping:
            velocity = ShapedVelocity(velocity, self.shaping)
        return SOLVERS[self.solver](velocity, x, self.times)

    def _jump(self, x: Tensor, labels: Tensor | None) -> Tensor:
        for t, s in pairwise(self.times):
            now, end = t.expand(x.shape[0]), s.expand(x.shape[0])
            x = x - (t - s) * self.network(x, now, labels, end=end)
        return x


def to_torchscript(sampler: Sampler, examples: Sequence[Tensor], metadata: str) -> bytes:
    """A TorchScript file of `sampler`, for `torch.jit.load`, with the metadata as an extra file.
    `examples`: noise and, if the network takes labels, labels, for a few images."""
    buffer = io.BytesIO()
    with quietly(), torch.no_grad():
        network = torch.jit.trace(
            PositionalNetwork(sampler.network), network_inputs(sampler, examples), check_trace=False
        )
        traced = torch.jit.trace(
            sampler.with_network(NamedNetwork(network)), tuple(examples), check_trace=False
        )
        torch.jit.save(traced, buffer, _extra_files={METADATA: metadata})
    return _without_origins(buffer)


def _without_origins(file: io.BytesIO) -> bytes:
    """A TorchScript file without the source files and lines of its operations on this machine."""
    stripped = io.BytesIO()
    with zipfile.ZipFile(file) as archive, zipfile.ZipFile(stripped, "w") as copy:
        for name in archive.namelist():
            if not name.endswith(".debug_pkl"):
                copy.writestr(zipfile.ZipInfo(name), archive.read(name))
    return stripped.getvalue()


def to_safetensors(sampler: Sampler, metadata: str) -> bytes:
    """A safetensors file of the network's weights, and of its tone curve if it has one. For
    `from_safetensors` the metadata is a JSON object with `network` (`class` and `arguments`),
    `times`, and `sampler`, its `settings()`."""
    state = {**sampler.network.state_dict()}
    if sampler.tone is not None:
        state |= {f"{TONE}{name}": value for name, value in sampler.tone.state_dict().items()}
    weights = {name: value.detach().cpu().contiguous() for name, value in state.items()}
    return safetensors.torch.save(weights, metadata={METADATA: metadata})


def from_safetensors(
    file: Path, networks: Mapping[str, type[nn.Module]] | None = None
) -> tuple[Sampler, dict[str, Any]]:
    """The sampler in a safetensors file, and its metadata. `networks`: classes that are not
    kaccore's, by their names. Raises ValueError for a file that `to_safetensors` did not write, and
    for one whose network is neither kaccore's nor in `networks`."""
    with safetensors.safe_open(file, framework="pt") as opened:
        text = (opened.metadata() or {}).get(METADATA)
        weights = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118 (it is not a dict)
    if text is None:
        raise ValueError(
            f"{file}: its metadata have no {METADATA}: not a file of python -m orchestrator.export"
        )
    about = json.loads(text)
    name = about["network"]["class"]
    known = {**NETWORKS, **(networks or {})}
    if name not in known:
        needs = "".join(
            f"; it was made with the plugin {text}" for text in about.get("plugins", [])
        )
        raise ValueError(
            f"{file}: its network {name} is not one of {', '.join(NETWORKS)}: give its class to "
            f"from_safetensors as networks={{{name!r}: ...}}{needs}"
        )
    network = known[name](**about["network"]["arguments"])
    curve = {name: weights.pop(name) for name in [*weights] if name.startswith(TONE)}
    tone = ToneCurve(*(curve[f"{TONE}{name}"] for name in ("inputs", "outputs"))) if curve else None
    network.load_state_dict(weights)
    sampler = Sampler(network, torch.tensor(about["times"]), tone=tone, **about["sampler"])
    return sampler.eval().requires_grad_(False), about


def run_torchscript(file: Path, inputs: Sequence[Tensor]) -> Tensor:
    """The images that a TorchScript file computes from `inputs`."""
    with quietly(), torch.no_grad():
        return torch.jit.load(str(file))(*inputs)


def run_safetensors(
    file: Path, inputs: Sequence[Tensor], networks: Mapping[str, type[nn.Module]] | None = None
) -> Tensor:
    """The images that the sampler in a safetensors file computes from `inputs`; `networks`: see
    `from_safetensors`."""
    with torch.no_grad():
        return from_safetensors(file, networks)[0](*inputs)


class PositionalNetwork(nn.Module):
    """A network with the positional arguments x, t and those of labels and end that there are:
    exporters do not support keyword arguments."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor, t: Tensor, *conditions: Tensor) -> Tensor:
        labels = [value for value in conditions if not value.is_floating_point()]
        ends = [value for value in conditions if value.is_floating_point()]
        return self.network(x, t, *labels, **({"end": ends[0]} if ends else {}))


class NamedNetwork(nn.Module):
    """The inverse: `inner` takes the arguments of `PositionalNetwork`; this takes a network's."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(
        self, x: Tensor, t: Tensor, labels: Tensor | None = None, end: Tensor | None = None
    ) -> Tensor:
        return self.inner(*(value for value in (x, t, labels, end) if value is not None))


def network_inputs(sampler: Sampler, examples: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """Example arguments for the network of `sampler`."""
    noise, *labels = examples
    t = torch.linspace(1, 0.5, len(noise))
    return (noise, t, *labels, *([t / 2] if sampler.jumps else []))


@contextlib.contextmanager
def quietly() -> Iterator[None]:
    """Silence the exporters' output about their internals."""
    before = logging.root.manager.disable
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        logging.disable(logging.WARNING)
        try:
            yield
        finally:
            logging.disable(before)
