"""A few-step sampler as one module, and as a file that runs without this project.

    Sampler(noise (N, C, H, W), labels (N,)) -> images (N, C, H, W)        grid, solver and guidance are part of it

ONNX and TorchScript files hold the whole sampler, for any N; safetensors holds the weights. Each
carries one text, `METADATA`, that its reader finds beside the weights: what goes in, what comes
out, and how the noise is drawn."""

import contextlib
import io
import json
import logging
import warnings
import zipfile
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor, nn

from kaccore.guidance import GuidedVelocity
from kaccore.models import MLP, DiT, UNet
from kaccore.shaping import ShapedVelocity
from kaccore.solvers import SOLVERS, check_times

METADATA = "kacflow.json"  # the name of the text in each kind of file
NETWORKS: dict[str, type[nn.Module]] = {"UNet": UNet, "DiT": DiT, "MLP": MLP}


class Sampler(nn.Module):
    """`sampler(noise, labels) -> images`: `network` integrated over the grid `times` (n+1,),
    decreasing from 1.

    `solver`, `guidance` and `shaping` as in `kaccore.sampling.sample`. `jumps`: the network is told
    where each step ends, as a student of consistency is. `bounded` clamps what comes out to [-1,
    1], for images. Raises ValueError for an unknown solver or a grid that is not monotone."""

    def __init__(
        self, network: nn.Module, times: Tensor, *, solver: str = "euler", guidance: float = 1.0, shaping: float = 0.0,
        jumps: bool = False, bounded: bool = True,
    ) -> None:  # fmt: skip
        super().__init__()
        if solver not in SOLVERS:
            raise ValueError(f"solver = {solver!r}: expected one of {', '.join(SOLVERS)}")
        self.network = network
        self.solver = solver
        self.guidance = guidance
        self.shaping = shaping
        self.jumps, self.bounded = jumps, bounded
        self.times: Tensor
        self.register_buffer("times", check_times(times))

    def settings(self) -> dict[str, Any]:
        """What it is made with beside the network and the grid."""
        return {
            name: getattr(self, name)
            for name in ("solver", "guidance", "shaping", "jumps", "bounded")
        }

    def around(self, network: nn.Module) -> "Sampler":
        """The same with another network."""
        return Sampler(network, self.times, **self.settings())

    def forward(self, noise: Tensor, labels: Tensor | None = None) -> Tensor:
        images = self._jump(noise, labels) if self.jumps else self._solve(noise, labels)
        return images.clamp(-1, 1) if self.bounded else images

    def _solve(self, x: Tensor, labels: Tensor | None) -> Tensor:
        velocity = GuidedVelocity(self.network, labels, self.guidance)
        return SOLVERS[self.solver](
            ShapedVelocity(velocity, self.shaping) if self.shaping else velocity, x, self.times
        )

    def _jump(self, x: Tensor, labels: Tensor | None) -> Tensor:
        for t, s in pairwise(self.times):
            x = x - (t - s) * self.network(
                x, t.expand(x.shape[0]), labels, end=s.expand(x.shape[0])
            )
        return x


def to_torchscript(sampler: Sampler, examples: Sequence[Tensor], metadata: str) -> bytes:
    """A TorchScript file of `sampler`, for `torch.jit.load`, which gives the metadata as an extra
    file. `examples`: noise and, where the network has labels, labels, of a few images."""
    buffer = io.BytesIO()
    with quietly(), torch.no_grad():
        network = torch.jit.trace(
            Positional(sampler.network), asked(sampler, examples), check_trace=False
        )
        traced = torch.jit.trace(
            sampler.around(Called(network)), tuple(examples), check_trace=False
        )
        torch.jit.save(traced, buffer, _extra_files={METADATA: metadata})
    return _without_origins(buffer)


def _without_origins(file: io.BytesIO) -> bytes:
    """A TorchScript file without its notes on where in which file of this machine each operation
    comes from."""
    stripped = io.BytesIO()
    with zipfile.ZipFile(file) as every, zipfile.ZipFile(stripped, "w") as kept:
        for name in every.namelist():
            if not name.endswith(".debug_pkl"):
                kept.writestr(zipfile.ZipInfo(name), every.read(name))
    return stripped.getvalue()


def to_safetensors(sampler: Sampler, metadata: str) -> bytes:
    """A safetensors file of the network's weights. For `from_safetensors` the metadata is a JSON
    object with `network` (`class` and `arguments`), `times`, and `sampler`, its `settings()`."""
    weights = {
        name: value.detach().cpu().contiguous()
        for name, value in sampler.network.state_dict().items()
    }
    return safetensors.torch.save(weights, metadata={METADATA: metadata})


def from_safetensors(file: Path) -> tuple[Sampler, dict[str, Any]]:
    """The sampler in a safetensors file, and its metadata. Raises ValueError where the file is none
    of ours."""
    with safetensors.safe_open(file, framework="pt") as opened:
        text = (opened.metadata() or {}).get(METADATA)
        weights = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118 (it is no dict)
    if text is None:
        raise ValueError(
            f"{file}: no {METADATA} among its metadata: not a file of python -m orchestrator.export"
        )
    about = json.loads(text)
    network = NETWORKS[about["network"]["class"]](**about["network"]["arguments"])
    network.load_state_dict(weights)
    sampler = Sampler(network, torch.tensor(about["times"]), **about["sampler"])
    return sampler.eval().requires_grad_(False), about


def run_torchscript(file: Path, inputs: Sequence[Tensor]) -> Tensor:
    """The images that a TorchScript file makes of `inputs`."""
    with quietly(), torch.no_grad():
        return torch.jit.load(str(file))(*inputs)


def run_safetensors(file: Path, inputs: Sequence[Tensor]) -> Tensor:
    """The images that the sampler in a safetensors file makes of `inputs`."""
    with torch.no_grad():
        return from_safetensors(file)[0](*inputs)


class Positional(nn.Module):
    """A network asked with x, t and whichever of labels and end there are, in this order: exporters
    know no names."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor, t: Tensor, *told: Tensor) -> Tensor:
        labels = [each for each in told if not each.is_floating_point()]
        ends = [each for each in told if each.is_floating_point()]
        return self.network(x, t, *labels, **({"end": ends[0]} if ends else {}))


class Called(nn.Module):
    """The way back: `inner`, asked as `Positional` is, as a network."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(
        self, x: Tensor, t: Tensor, labels: Tensor | None = None, end: Tensor | None = None
    ) -> Tensor:
        return self.inner(*(each for each in (x, t, labels, end) if each is not None))


def asked(sampler: Sampler, examples: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """What the network of `sampler` is asked with."""
    noise, *labels = examples
    t = torch.linspace(1, 0.5, len(noise))
    return (noise, t, *labels, *([t / 2] if sampler.jumps else []))


@contextlib.contextmanager
def quietly() -> Iterator[None]:
    """Without the exporters' own talk, which is of their insides."""
    before = logging.root.manager.disable
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        logging.disable(logging.WARNING)
        try:
            yield
        finally:
            logging.disable(before)
